"""ModalityNormalizer: moments over valid steps, exact for any batches, offsets and constants."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_model, save_model
from torch._subclasses.fake_tensor import FakeTensorMode

from modimpute import ModalityNormalizer

DIMS = {"text": 4, "audio": 3, "a.b": 2}  # not in the order of the names
NAN = torch.nan
seeds = st.integers(0, 2**32 - 1)


def make_batch(size=6, length=4, seed=0, rate=0.6, dtype=torch.float32, offset=0.0):
    g = torch.Generator().manual_seed(seed)
    modalities, valid = {}, {}
    for i, (name, dim) in enumerate(DIMS.items()):
        x = torch.randn(size, length + i, dim, generator=g, dtype=torch.float64) + offset
        valid[name] = torch.rand(size, length + i, generator=g) < rate
        modalities[name] = x.to(dtype).masked_fill(~valid[name].unsqueeze(-1), NAN)
    return modalities, valid


def moments(normalizer, name):
    part = normalizer.moments[name]
    return part.mean.double() + part.residue.double(), part.deviation.double()


def fitted(**options):
    normalizer = ModalityNormalizer(DIMS, **options)
    return normalizer.fit([make_batch(seed=seed, offset=3.0) for seed in range(3)])


class TestMoments:
    @given(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), seeds), min_size=1, max_size=5)
    )
    def test_any_batches_are_as_one(self, shapes):
        batches = [make_batch(*shape, dtype=torch.float64, offset=5.0) for shape in shapes]
        normalizer = ModalityNormalizer(DIMS, dtype=torch.float64).fit(batches)
        for name in DIMS:
            x = torch.cat([modalities[name][valid[name]] for modalities, valid in batches])
            mean, deviation = moments(normalizer, name)
            assert normalizer.moments[name].count == len(x)
            if len(x):
                torch.testing.assert_close(mean, x.mean(0))
                torch.testing.assert_close(deviation, x.std(0, correction=0), atol=1e-7, rtol=1e-7)
            else:  # nothing is known
                assert mean.eq(0).all()
                assert deviation.eq(1).all()

    def test_standardised_data_have_mean_0_and_deviation_1(self):
        modalities, valid = make_batch(50, offset=7.0)
        normalizer = ModalityNormalizer(DIMS).fit([(modalities, valid)])
        for name, y in normalizer(modalities, valid=valid).items():
            y = y[valid[name]]
            torch.testing.assert_close(y.mean(0), torch.zeros(DIMS[name]), atol=1e-5, rtol=0)
            torch.testing.assert_close(y.std(0, correction=0), torch.ones(DIMS[name]))

    @pytest.mark.parametrize("offset", [1e4, -1e6])
    def test_an_offset_in_float32_costs_nothing(self, offset):
        g = torch.Generator().manual_seed(0)
        x = torch.randn(4000, 1, 3, generator=g) + offset
        fine = x.double() + 0.01 * torch.randn(4000, 1, 3, generator=g, dtype=torch.float64)
        normalizer = ModalityNormalizer({"a": 3})
        for rows in x.split(10):  # hundreds of merges, each rounded to float32
            normalizer.update({"a": rows})
        wide = x.double()
        mean, deviation = wide.mean((0, 1)), wide.std((0, 1), correction=0)
        torch.testing.assert_close(moments(normalizer, "a")[0], mean, atol=1e-6, rtol=0)
        torch.testing.assert_close(moments(normalizer, "a")[1], deviation, atol=0, rtol=1e-5)
        expected = ((wide - mean) / deviation).float()
        torch.testing.assert_close(normalizer({"a": x})["a"], expected, atol=1e-5, rtol=1e-5)
        expected = ((fine - mean) / deviation).float()
        torch.testing.assert_close(normalizer({"a": fine})["a"], expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("value", [0.0, 0.1, 1e4 / 3, -1e8, 1e-30])
    def test_constant_features_are_safe(self, value):
        x = torch.full((30, 2, 1), value)
        x = torch.cat([x, torch.randn(30, 2, 1, generator=torch.Generator().manual_seed(0))], -1)
        normalizer = ModalityNormalizer({"a": 2}).fit([{"a": rows} for rows in x.split(7)])
        y = normalizer({"a": x})["a"]
        assert y[..., 0].abs().max() <= 1e-6 * abs(value)
        assert normalizer({"a": x + 1.0})["a"].abs().max() < 10  # one unit stays about one
        torch.testing.assert_close(normalizer.inverse({"a": y})["a"], x)

    def test_rounding_is_no_variation(self):
        x = torch.full((10, 1, 1), 0.1)
        x[::2] = x[::2].nextafter(torch.tensor(1.0))
        y = ModalityNormalizer({"a": 1}).fit([{"a": x}])({"a": x})["a"]
        assert y.abs().max() < 1e-7
        y = ModalityNormalizer({"a": 1}, eps=0.0).fit([{"a": x}])({"a": x})["a"]
        assert y.abs().max() > 0.9

    def test_small_features_are_not_constant(self):
        x = 1e-20 * torch.randn(100, 1, 1, generator=torch.Generator().manual_seed(0))
        y = ModalityNormalizer({"a": 1}).fit([{"a": x}])({"a": x})["a"]
        torch.testing.assert_close(y.std(correction=0), torch.tensor(1.0))

    def test_fit_forgets_and_update_does_not(self):
        first, second = make_batch(seed=1), make_batch(seed=2)
        normalizer = ModalityNormalizer(DIMS).fit([first]).fit([second])
        once = ModalityNormalizer(DIMS).fit([second])
        assert str(normalizer.state_dict()) == str(once.state_dict())
        normalizer.update(first[0], valid=first[1])
        both = ModalityNormalizer(DIMS).fit([list(second), first])
        assert str(normalizer.state_dict()) == str(both.state_dict())
        normalizer.reset_parameters()
        assert str(normalizer.state_dict()) == str(ModalityNormalizer(DIMS).state_dict())


class TestForward:
    def test_identity_before_it_is_fitted(self):
        modalities, valid = make_batch()
        given = {name: x.nan_to_num() for name, x in modalities.items()}
        normalizer = ModalityNormalizer(DIMS)
        for output in (normalizer(modalities, valid=valid), normalizer.inverse(given)):
            assert all(torch.equal(output[name], given[name]) for name in DIMS)

    def test_inverse_is_the_inverse(self):
        modalities, valid = make_batch(offset=100.0)
        normalizer = fitted()
        back = normalizer.inverse(normalizer(modalities, valid=valid), valid=valid)
        given = {name: x.nan_to_num() for name, x in modalities.items()}
        torch.testing.assert_close(back, dict(sorted(given.items())))

    @settings(max_examples=25)
    @given(seed=seeds)
    def test_what_is_not_valid_is_never_read(self, seed):
        modalities, valid = make_batch(3, 3, seed)
        results = []
        for junk in (0.0, NAN, torch.inf, 1e30):
            x = {
                name: t.masked_fill(~valid[name].unsqueeze(-1), junk).requires_grad_()
                for name, t in modalities.items()
            }
            normalizer = ModalityNormalizer(DIMS).fit([(x, valid)])
            outputs = [*normalizer(x, valid=valid).values()]
            outputs += normalizer.inverse(x, valid=valid).values()
            gradients = torch.autograd.grad(sum(y.square().sum() for y in outputs), [*x.values()])
            results.append([*outputs, *gradients, *normalizer.state_dict().values()])
        assert all(torch.equal(a, b) for r in results for a, b in zip(r, results[0], strict=True))
        assert all(x.isfinite().all() for x in results[0])

    def test_any_subset_of_modalities_in_any_order(self):
        modalities, valid = make_batch()
        normalizer = fitted()
        everything = normalizer(modalities, valid=valid)
        assert list(everything) == sorted(DIMS)
        for name in DIMS:
            alone = normalizer({name: modalities[name]}, valid={name: valid[name]})
            assert torch.equal(alone[name], everything[name])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_output_has_the_dtype_of_the_moments(self, dtype):
        modalities, valid = make_batch(dtype=dtype)
        for normalizer in (fitted(), fitted(dtype=torch.float64), fitted().half()):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                for output in (
                    normalizer(modalities, valid=valid),
                    normalizer.inverse(modalities),
                ):
                    expected = normalizer.moments["text"].mean.dtype
                    assert {y.dtype for y in output.values()} == {expected}


class TestModule:
    def test_state(self, tmp_path):
        normalizer, (modalities, valid) = fitted(), make_batch()
        assert list(normalizer.state_dict()) == [
            f"moments.@{name}.{part}"
            for name in ("a%2Eb", "audio", "text")
            for part in ("count", "mean", "residue", "deviation")
        ]
        loaded = ModalityNormalizer(dict(reversed(DIMS.items())))
        save_model(normalizer, tmp_path / "model.safetensors")
        load_model(loaded, tmp_path / "model.safetensors")
        for twin in (loaded, copy.deepcopy(normalizer), pickle.loads(pickle.dumps(normalizer))):
            for a, b in zip(
                twin(modalities, valid=valid).values(),
                normalizer(modalities, valid=valid).values(),
                strict=True,
            ):
                assert torch.equal(a, b)
        assert not list(normalizer.parameters())
        assert repr(normalizer).startswith(
            "ModalityNormalizer(\n  modality_dims={'a.b': 2, 'audio': 3, 'text': 4}, eps=1e-07"
        )

    def test_meta_device(self):
        normalizer = ModalityNormalizer(DIMS, device="meta", dtype=torch.float64)
        for options in ({}, {"valid": {n: v.to("meta") for n, v in make_batch()[1].items()}}):
            normalizer.update({n: x.to("meta") for n, x in make_batch()[0].items()}, **options)
        assert all(x.is_meta for x in normalizer.buffers())
        normalizer.to_empty(device="cpu").reset_parameters()
        assert str(normalizer.state_dict()) == str(
            ModalityNormalizer(DIMS, dtype=torch.float64).state_dict()
        )

    def test_creates_nothing_on_a_default_device(self):
        modalities, valid = make_batch()
        with FakeTensorMode(allow_non_fake_inputs=True):
            normalizer = ModalityNormalizer(DIMS, device="cuda")
            x = {n: torch.empty(t.shape, device="cuda") for n, t in modalities.items()}
            v = {
                n: torch.empty(t.shape, device="cuda", dtype=torch.bool) for n, t in valid.items()
            }
            for valid in (None, v):
                for output in (normalizer(x, valid=valid), normalizer.inverse(x, valid=valid)):
                    assert all(y.is_cuda for y in output.values())

    def test_compile_and_export(self):
        normalizer, (modalities, valid) = fitted(), make_batch(7)
        expected = normalizer(modalities, valid=valid)
        compiled = torch.compile(normalizer, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(modalities, valid=valid), expected)
        example, there = make_batch(3)
        batch = torch.export.Dim("batch")
        shapes = {name: {0: batch} for name in DIMS}
        exported = torch.export.export(
            normalizer, (example,), {"valid": there},
            dynamic_shapes={"modalities": shapes, "valid": shapes},
        )  # fmt: skip
        output = exported.module()(modalities, valid=valid)
        torch.testing.assert_close(output, expected)

    def test_messages(self):
        normalizer, (modalities, valid) = fitted(), make_batch()
        with pytest.raises(ValueError, match=r"eps must not be negative, however: eps=-1"):
            ModalityNormalizer(DIMS, eps=-1)
        with pytest.raises(TypeError, match=r"eps must be a float, however: eps='0'"):
            ModalityNormalizer(DIMS, eps="0")
        with pytest.raises(ValueError, match=r"batches must hold at least one batch, however"):
            normalizer.fit([])
        with pytest.raises(TypeError, match=r"a batch must be a mapping or a pair .*type=str"):
            normalizer.fit(iter(modalities))
        for call in (normalizer, normalizer.inverse, normalizer.update):
            with pytest.raises(ValueError, match=r"modalities\['text'\] must have 4 features"):
                call({"text": torch.zeros(2, 1, 5)})
            with pytest.raises(ValueError, match=r"modalities must have names of .*'vision'"):
                call({"vision": torch.zeros(2, 1, 5)})
            with pytest.raises(TypeError, match=r"must be floating \(embed tokens first\)"):
                call({"text": torch.zeros(2, 1, 4).long()})
            with pytest.raises(ValueError, match=r"valid\['text'\] must have shape"):
                call(modalities, valid={"text": valid["text"][:1]})


@pytest.mark.parametrize("junk", [NAN, torch.inf])
def test_fit_refuses_what_is_valid_and_not_finite(junk):
    normalizer, x = ModalityNormalizer({"a": 2, "b": 1}), torch.zeros(2, 3, 1)
    x[1, 2] = junk
    with pytest.raises(ValueError, match=r"modalities\['b'\] must be finite where it is valid"):
        normalizer.fit([{"a": torch.zeros(2, 3, 2), "b": x}])
    normalizer.fit([({"b": x}, {"b": x.isfinite().all(-1)})])  # never read


@pytest.mark.parametrize("pair", [True, False])
def test_fit_says_that_one_batch_goes_into_a_list(pair):
    batch = {"a": torch.zeros(2, 3, 2)}
    given = (batch, {"a": torch.ones(2, 3, dtype=torch.bool)}) if pair else batch
    with pytest.raises(TypeError, match="one batch in a list, however: it is one batch"):
        ModalityNormalizer({"a": 2}).fit(given)
    ModalityNormalizer({"a": 2}).fit([batch, batch])  # two batches are no pair
