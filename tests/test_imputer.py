"""ModalityImputer: what it copies and fills, what it never reads, what it costs and refuses."""

import copy
import functools
import re
from dataclasses import dataclass, replace

import pytest
import torch
from cases import DIMS, imputer, randomize, weighted
from hypothesis import given, settings, strategies as st
from test_contract import NoSync
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from modimpute import ModalityDropout, ModalityImputer, consistency_loss

KINDS = {  # options, and the lengths of text, audio and vision
    "aligned": ({"aligned": True}, (5, 5, 5)),
    "aligned, of some": ({"aligned": True, "targets": ["audio", "vision"]}, (4, 4, 4)),
    "aligned vectors": ({"aligned": True, "num_places": 0}, (1, 1, 1)),
    "unaligned": ({"num_layers": 2}, (5, 7, 1)),
    "unaligned, of some": ({"targets": ["vision"]}, (4, 6, 3)),
    "vectors": ({"num_places": 0}, (1, 1, 1)),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
two_kinds = pytest.mark.parametrize("kind", ["aligned, of some", "unaligned, of some"])
both_ways = pytest.mark.parametrize("reconstruct", [False, True])
close = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-10)
seeds = st.integers(0, 2**16)
JUNK = (torch.nan, torch.inf, 1e30)


@functools.cache
def built(kind, dtype=torch.float64):
    """Returns the one module of a kind, in which nothing is zero; only its mode is changed."""
    torch.manual_seed(0)
    options = {"num_layers": 1, **KINDS[kind][0]}
    return randomize(imputer(**options)).to(dtype)


@dataclass(frozen=True)
class Batch:
    """A batch, with what exists of every modality; what is valid exists."""

    x: dict
    valid: dict
    exists: dict

    def each(self, function):
        """Applies a function of the name and the tensor to all."""
        parts = (self.x, self.valid, self.exists)
        return Batch(*({n: function(n, t) for n, t in part.items()} for part in parts))

    def pick(self, rows):
        return self.each(lambda _, t: t[rows])

    def put(self, value, *names):
        """Puts a value at every step that is not valid or, of the names given, at every step."""
        x = {n: t.masked_fill(~self.valid[n].unsqueeze(-1), value) for n, t in self.x.items()}
        return replace(self, x=x | {n: torch.full_like(x[n], value) for n in names})

    def without(self, name):
        """Marks a modality as missing, by row."""
        return replace(self, valid=self.valid | {name: torch.zeros_like(self.valid[name])})


def make_batch(kind, size=4, seed=0, dtype=torch.float64, lengths=None):
    """Returns random steps that exist; some are valid, and some samples lack a modality."""
    g = torch.Generator().manual_seed(seed)
    x, valid, exists = {}, {}, {}
    for (name, dim), length in zip(DIMS.items(), lengths or KINDS[kind][1], strict=True):
        x[name] = torch.randn(size, length, dim, generator=g, dtype=torch.float64).to(dtype)
        exists[name] = torch.rand(size, length, generator=g) < 0.8
        has = torch.rand(size, 1, generator=g) < 0.7
        valid[name] = exists[name] & has & (torch.rand(size, length, generator=g) < 0.7)
    return Batch(x, valid, exists)


def call(module, batch, **options):
    exists = {name: batch.exists[name] for name in module.targets}
    return module(batch.x, valid=batch.valid, target_valid=exists, **options)


def results(module, batch, **options):
    """Returns the outputs and the gradients of inputs and parameters, all by name."""
    x = {name: t.detach().clone().requires_grad_() for name, t in batch.x.items()}
    output = call(module, replace(batch, x=x), **options)
    leaves = {f"gradient of {n}": t for n, t in [*x.items(), *module.named_parameters()]}
    grads = torch.autograd.grad(weighted(output), [*leaves.values()], materialize_grads=True)
    answer = {name: t.detach() for name, t in output.items()}
    return answer | dict(zip(leaves, grads, strict=True))


def same(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def alike(first, second):
    assert first.keys() == second.keys()
    for name in first:
        close(first[name], second[name])


def law(test):
    """A property over random batches."""
    strategies = {"seed": seeds, "training": st.booleans()}
    return settings(max_examples=6)(given(**strategies)(test))


@each_kind
class TestLaws:
    @law
    def test_copies_what_is_valid_and_fills_what_is_not(self, kind, seed, training):
        for inner, outer in [(torch.float64, torch.float64), (torch.float32, torch.float64),
                             (torch.float32, torch.float16)]:  # fmt: skip
            module = built(kind, inner).train(training)
            batch = make_batch(kind, seed=seed, dtype=outer)
            output = call(module, batch.put(torch.nan))
            assert list(output) == sorted(DIMS)
            for name, y in output.items():
                valid, exists = batch.valid[name], batch.exists[name]
                assert y.dtype == outer
                assert torch.equal(y[valid], batch.x[name][valid])
                asked = exists & ~valid if name in module.targets else exists & False
                assert y[asked].isfinite().all()
                assert (y[asked] != 0).all()
                assert (y[~valid & ~asked] == 0).all()

    @both_ways
    @law
    def test_what_is_not_valid_is_never_read(self, kind, reconstruct, seed, training):
        module = built(kind, torch.float32).train(training)
        batch = make_batch(kind, seed=seed, dtype=torch.float32)
        zeros = results(module, batch.put(0.0), reconstruct=reconstruct)
        assert all(t.isfinite().all() for t in zeros.values())
        for value in JUNK:
            same(results(module, batch.put(value), reconstruct=reconstruct), zeros)

    @law
    def test_order_of_names_changes_nothing(self, kind, seed, training):
        module, batch = built(kind).train(training), make_batch(kind, seed=seed)
        parts = (batch.x, batch.valid, batch.exists)
        other = Batch(*(dict(reversed(part.items())) for part in parts))
        same(results(module, batch), results(module, other))

    @both_ways
    @law
    def test_neighbours_change_nothing(self, kind, reconstruct, seed, training):
        module, batch = built(kind).train(training), make_batch(kind, seed=seed)
        together = call(module, batch, reconstruct=reconstruct)
        for i in range(4):
            alone = call(module, batch.pick([i]), reconstruct=reconstruct)
            alike(alone, {name: y[i : i + 1] for name, y in together.items()})

    @both_ways
    @settings(max_examples=6)
    @given(seed=seeds, pads=st.lists(st.integers(0, 3), min_size=6, max_size=6))
    def test_padding_changes_nothing(self, kind, reconstruct, seed, pads):
        module, batch = built(kind), make_batch(kind, seed=seed)
        before, after = (dict(zip(DIMS, part, strict=True)) for part in (pads[:3], pads[3:]))
        if module.aligned:
            before, after = (dict.fromkeys(DIMS, part["text"]) for part in (before, after))

        def longer(name, t):
            fill = torch.nan if t.is_floating_point() else False
            parts = [t.new_full((4, n, *t.shape[2:]), fill) for n in (before[name], after[name])]
            return torch.cat([parts[0], t, parts[1]], 1)

        output = call(module, batch, reconstruct=reconstruct)
        for name, y in call(module, batch.each(longer), reconstruct=reconstruct).items():
            first, last = before[name], before[name] + output[name].shape[1]
            close(y[:, first:last], output[name])
            assert (y[:, :first] == 0).all()
            assert (y[:, last:] == 0).all()

    @both_ways
    @law
    def test_absent_by_key_is_absent_by_row(self, kind, reconstruct, seed, training):
        module = built(kind).train(training)
        for name in DIMS:
            batch = make_batch(kind, seed=seed).without(name).put(torch.nan)
            for steps in batch.exists.values():  # where the learned places begin to count
                steps[:, 0] = True
            exists = {n: batch.exists[n] for n in module.targets}
            by_row = call(module, batch, reconstruct=reconstruct)
            del batch.x[name], batch.valid[name]
            options = {"valid": batch.valid, "reconstruct": reconstruct}
            by_key = module(batch.x, target_valid=exists, **options)
            if name not in module.targets:
                by_row.pop(name, None)
            alike(by_key, by_row)
            exists.pop(name, None)  # not asked for
            by_row.pop(name, None)
            alike(module(batch.x, target_valid=exists, **options), by_row)

    @law
    def test_reconstruction_reads_no_value_of_its_own(self, kind, seed, training):
        module, batch = built(kind).train(training), make_batch(kind, seed=seed)
        output = call(module, batch, reconstruct=True)
        assert list(output) == sorted(module.targets)
        for name, y in output.items():
            for value in JUNK:
                other = call(module, batch.put(value, name), reconstruct=True)[name]
                assert torch.equal(other, y)
            assert (y[batch.exists[name]] != batch.x[name][batch.exists[name]]).all()
            assert (y[~batch.exists[name]] == 0).all()

    @both_ways
    def test_answers_where_nothing_is_valid(self, kind, reconstruct):
        module, batch = built(kind), make_batch(kind)
        for name in DIMS:
            batch = batch.without(name)
            batch.exists[name][:] = True
        expected = results(module.train(), batch.put(torch.nan), reconstruct=reconstruct)
        assert all(t.isfinite().all() for t in expected.values())
        for training in (True, False):
            module.train(training)
            alike(results(module, batch, reconstruct=reconstruct), expected)
            with torch.no_grad():
                output = call(module, batch.put(torch.inf), reconstruct=reconstruct)
            for name, y in output.items():
                close(y, expected[name])
                close(y, y[:1].expand_as(y))  # one answer for all
                if name in module.targets:
                    assert (y != 0).all()

    @law
    def test_defaults_are_what_is_documented(self, kind, seed, training):
        module, batch = built(kind).train(training), make_batch(kind, seed=seed)
        everywhere = {name: torch.ones_like(v) for name, v in batch.valid.items()}
        batch = replace(batch, exists=everywhere)
        alike(module(batch.x, valid=batch.valid), call(module, batch))
        batch = replace(batch, valid=everywhere)
        same(module(batch.x), batch.x | {name: batch.x[name] for name in sorted(DIMS)})
        for reconstruct in (False, True):
            options = {"reconstruct": reconstruct}
            alike(module(batch.x, **options), call(module, batch, **options))

    @both_ways
    @law
    def test_rows_are_the_only_ones_run(self, kind, reconstruct, seed, training):
        module, batch = built(kind).train(training), make_batch(kind, size=5, seed=seed)
        sizes = []
        hooks = [module.encoders[name].register_forward_hook(
            lambda _, args, __: sizes.append(args[0].shape[0])) for name in DIMS]  # fmt: skip
        batch = batch.put(torch.nan)
        whole = call(module, batch, reconstruct=reconstruct)
        assert sizes == [5] * 3  # each encoded once
        rows = torch.tensor([3, 0])
        some = call(module, batch, reconstruct=reconstruct, rows=rows)
        assert sizes == [5] * 3 + [2] * 3
        none = call(module, batch, reconstruct=reconstruct, rows=rows[:0])
        assert sizes == [5] * 3 + [2] * 3 + [1] * 3 * training  # one that does not count
        for hook in hooks:
            hook.remove()
        for name, y in whole.items():
            given, valid = batch.x[name], batch.valid[name].unsqueeze(-1)
            left = torch.zeros_like(given) if reconstruct else given.where(valid, 0.0)
            assert torch.equal(none[name], left)
            assert torch.equal(some[name][[1, 2, 4]], left[[1, 2, 4]])
            close(some[name][rows], y[rows])

    def test_empty_batches_and_lengths(self, kind):
        for training in (True, False):
            module = built(kind).train(training)
            for options in ({}, {"reconstruct": True}, {"rows": torch.arange(0)}):
                output = call(module, make_batch(kind, 0), **options)
                assert [y.shape[0] for y in output.values()] == [0] * len(output)
            short = (0, 0, 0) if module.aligned else (0, 3, 0)
            output = call(module, make_batch(kind, lengths=short))
            assert [y.shape[1] for y in output.values()] == [short[1], short[0], short[2]]


def ways_to_train(module, batch):
    """Yields calls of all kinds; each must give every parameter a gradient."""
    x, valid = batch.x, batch.valid
    exists = {name: batch.exists[name] for name in module.targets}
    gaps = {"valid": valid, "target_valid": exists}
    everywhere = {name: torch.ones_like(v) for name, v in valid.items()}
    nowhere = {name: torch.zeros_like(v) for name, v in valid.items()}
    for reconstruct in (False, True):
        options = {"reconstruct": reconstruct}
        yield "complete", (x,), options
        yield "complete, told", (x,), {"valid": everywhere, **options}
        yield "gaps", (x,), {**gaps, **options}
        yield "nothing", (x,), {"valid": nowhere, **options}
        yield "rows", (x,), {**gaps, "rows": torch.tensor([2, 1]), **options}
        yield "no rows", (x,), {**gaps, "rows": torch.arange(0), **options}
        yield "no rows, complete", (x,), {"rows": torch.arange(0), **options}
        short = {name: t[:, :0] for name, t in x.items()}
        yield "no steps", (short,), options
        for name in DIMS:
            rest = {n: t for n, t in x.items() if n != name}
            yield f"without {name}", (rest,), {"target_valid": exists, **options}
            yield f"without {name}, not asked", (rest,), options
            some = {"rows": torch.tensor([1]), "target_valid": exists}
            yield f"without {name}, rows", (rest,), {**some, **options}
            if name in module.targets:
                yield f"only {name}", ({name: x[name]},), options
            yield f"{name} without steps", ({**rest, name: short[name]},), options


@each_kind
def test_every_parameter_takes_part(kind):
    module, batch = built(kind).train(), make_batch(kind)
    parameters = dict(module.named_parameters())
    for way, args, options in ways_to_train(module, batch):
        if module.aligned and "without steps" in way:  # of one length
            continue
        output = module(*args, **options)
        named = {*args[0], *options.get("target_valid", {})}
        if options["reconstruct"] and named.isdisjoint(module.targets):
            assert output == {}  # nothing was asked for: there is no loss
            continue
        grads = torch.autograd.grad(weighted(output), [*parameters.values()], allow_unused=True)
        lacking = [name for name, grad in zip(parameters, grads, strict=True) if grad is None]
        assert (way, options.get("reconstruct"), lacking) == (way, options["reconstruct"], [])
        assert all(grad.isfinite().all() for grad in grads)


@each_kind
def test_reads_all_that_may_be_read(kind):
    # Also its own valid steps; what is filled is that of the same step, so it depends on it.
    module, batch = built(kind).eval(), make_batch(kind)
    valid = {name: torch.ones_like(v) for name, v in batch.valid.items()}
    for name in module.targets:
        gap = valid | {name: valid[name].clone()}
        gap[name][:, 0] = False
        x = {n: t.clone().requires_grad_() for n, t in batch.x.items()}
        filled = module(x, valid=gap)[name][:, 0].square().sum()
        for other, grad in zip(x, torch.autograd.grad(filled, [*x.values()]), strict=True):
            steps = grad.abs().sum(-1) != 0
            assert torch.equal(steps, gap[other])


@each_kind
def test_no_synchronisation(kind):
    module, batch = built(kind), make_batch(kind)
    for training in (True, False):
        for reconstruct in (False, True):
            with NoSync():
                results(module.train(training), batch, reconstruct=reconstruct)


def test_each_comes_back_in_its_own_dtype():
    module, batch = built("unaligned", torch.float32), make_batch("unaligned")
    dtypes = dict(zip(DIMS, (torch.float16, torch.bfloat16, torch.float64), strict=True))
    x = {name: t.to(dtypes[name]) for name, t in batch.x.items()}
    del x["audio"]
    for autocast in (False, True):
        for reconstruct in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                output = module(x, target_valid=batch.exists, reconstruct=reconstruct)
            wanted = dtypes | {"audio": torch.float32}
            assert {name: y.dtype for name, y in output.items()} == wanted
            assert all(y.isfinite().all() for y in output.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@two_kinds
def test_half_precision(kind, dtype):
    module, batch = built(kind, dtype), make_batch(kind)
    expected = call(built(kind), batch)
    for training in (True, False):
        for name, y in call(module.train(training), batch.put(torch.nan)).items():
            torch.testing.assert_close(y, expected[name], rtol=0.1, atol=0.15)


@pytest.fixture
def dynamo():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize(
    ("kind", "training", "reconstruct"),
    [("aligned, of some", False, True), ("unaligned, of some", True, False)],
)
def test_compiled(kind, training, reconstruct):
    module, batch = built(kind).train(training), make_batch(kind, 7).put(torch.nan)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    with torch.set_grad_enabled(training):
        output = call(compiled, batch, reconstruct=reconstruct)
        expected = call(module, batch, reconstruct=reconstruct)
    alike(output, expected)
    if training:
        parameters = list(module.parameters())
        grads = (torch.autograd.grad(weighted(y), parameters) for y in (output, expected))
        for pair in zip(*grads, strict=True):
            close(*pair)
        with torch.compiler.set_stance("fail_on_recompile"):  # others miss others
            other = make_batch(kind, 7, seed=1)
            output = call(compiled, other, reconstruct=reconstruct)
        alike(output, call(module, other, reconstruct=reconstruct))


@pytest.mark.parametrize(
    ("kind", "reconstruct"), [("aligned, of some", False), ("unaligned, of some", True)]
)
def test_exported(kind, reconstruct):
    # For any batch size and, as what is aligned is only compared, for any lengths.
    module, batch = built(kind).eval(), make_batch(kind)
    exists = {name: batch.exists[name] for name in module.targets}
    kwargs = {"valid": batch.valid, "target_valid": exists, "reconstruct": reconstruct}
    any_size = dict.fromkeys(range(2), torch.export.Dim.DYNAMIC)

    def shapes(arguments):
        return torch.utils._pytree.tree_map(
            lambda t: any_size if isinstance(t, torch.Tensor) else None, arguments
        )

    program = torch.export.export(
        module, (batch.x,), kwargs, dynamic_shapes=shapes({"modalities": batch.x, **kwargs})
    ).module()
    for size, lengths in [(4, None), (6, (8, 8, 8)), (1, (3, 3, 3))]:
        other = make_batch(kind, size, seed=2, lengths=lengths).put(torch.nan)
        exists = {name: other.exists[name] for name in module.targets}
        options = {"valid": other.valid, "target_valid": exists, "reconstruct": reconstruct}
        alike(program(other.x, **options), call(module, other, reconstruct=reconstruct))


@pytest.mark.parametrize("aligned", [False, True])
def test_a_larger_one_takes_the_state_of_a_smaller_one(aligned):
    small = randomize(imputer(aligned=aligned), seed=1).double()
    torch.manual_seed(2)
    large = imputer({**DIMS, "b.new": 6}, aligned=aligned).double()  # sorted into the middle
    keys = large.load_state_dict(small.state_dict(), strict=False)
    assert keys.unexpected_keys == []
    assert keys.missing_keys
    assert all(".@b%2Enew." in key for key in keys.missing_keys)
    batch = make_batch("aligned")
    new = torch.full((4, 5, 6), torch.nan)
    valid = batch.valid | {"b.new": torch.zeros(4, 5, dtype=torch.bool)}
    for training in (True, False):
        small.train(training), large.train(training)
        for options in ({}, {"reconstruct": True}):
            expected = call(small, batch, **options)
            exists = {"target_valid": batch.exists}
            alike(large(batch.x, valid=batch.valid, **exists, **options), expected)
            by_row = large(batch.x | {"b.new": new}, valid=valid, **exists, **options)
            by_row.pop("b.new")
            alike(by_row, expected)


def train(kind, way, batch, steps=3):
    """Returns the weights after some steps on incomplete data."""
    torch.manual_seed(0)
    module = imputer(**KINDS[kind][0], dropout=0.1).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0.01)
    dropout = ModalityDropout(0.5, level="step" if way == "steps" else "sample")
    for _ in range(steps):
        optimizer.zero_grad()
        if way == "reconstruct":
            output, asked = call(module, batch, reconstruct=True), batch.valid
        else:
            kept = dropout(batch.x, valid=batch.valid)
            # What is asked for must exist; so all that exists here is what was observed.
            exists = {name: batch.valid[name] for name in module.targets}
            output = module(batch.x, valid=kept, target_valid=exists)
            asked = {name: batch.valid[name] & ~kept[name] for name in DIMS}
        losses = [consistency_loss(output[name], batch.x[name], valid=asked[name])
                  for name in module.targets]  # fmt: skip
        sum(losses).backward()
        optimizer.step()
    return module.state_dict()


@pytest.mark.parametrize("way", ["samples", "steps", "reconstruct"])
@two_kinds
def test_training_never_sees_what_is_missing(kind, way):
    batch = make_batch(kind, 6, dtype=torch.float32)  # with the true values
    truth = train(kind, way, batch)
    start = train(kind, way, batch, steps=0)
    assert sum(not torch.equal(truth[key], start[key]) for key in truth) > 0.7 * len(truth)
    assert all(x.isfinite().all() for x in truth.values())
    same(train(kind, way, batch.put(torch.nan)), truth)


def cost(number, **options):
    """Returns the operations of a training step with so many modalities."""
    names = [f"m{i}" for i in range(number)]
    module = ModalityImputer(dict.fromkeys(names, 16), model_dim=64, **options)
    x = {name: torch.randn(16, 50, 16) for name in names}
    valid = {name: torch.rand(16, 50) < 0.7 for name in names}
    # The one way to compute attention of which all operations are counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        weighted(module(x, valid=valid)).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("aligned", [False, True])
def test_cost_grows_linearly(aligned):
    assert 3.5 < cost(8, aligned=aligned) / cost(2, aligned=aligned) <= 4.5


@pytest.mark.parametrize("aligned", [False, True])
def test_sixteen_modalities_fit_in_memory(aligned):
    names = [f"m{i}" for i in range(16)]
    module = ModalityImputer(dict.fromkeys(names, 32), aligned=aligned)
    x = {name: torch.randn(8, 100, 32) for name in names}
    valid = {name: torch.rand(8, 100) < 0.7 for name in names}
    saved = {}

    def keep(t):
        saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        output = weighted(module(x, valid=valid))
    assert 2**20 < sum(saved.values()) < 2e9
    output.backward()


X, Y, VALID = torch.zeros(2, 5, 3), torch.zeros(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)
AB = {"a": X, "b": Y}
TWO = {"a": 3, "b": 4}
ONE = {"model_dim": 8, "num_heads": 2, "num_layers": 1}
MODULE = ModalityImputer(TWO, targets=["a"], **ONE)
ALIGNED = ModalityImputer(TWO, aligned=True, **ONE)
ROWS = torch.tensor([0, 2])


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        ((TWO,), {"targets": "a"}, TypeError, "targets must be a sequence of names, however: "
         "targets='a'"),
        ((TWO,), {"targets": ["a", "c"]}, ValueError, "targets must have names of ('a', 'b'), "
         "however: 'c'"),
        ((TWO,), {"targets": []}, ValueError, "targets must hold at least 1 modality, however: "
         "its names are []"),
        ((TWO,), {"targets": [1]}, TypeError, "targets must have str names, however: 1"),
        (({"a": 3},), {}, ValueError, "modality_dims must hold at least 2 modalities, however: "
         "its names are ['a']"),
        ((TWO,), {"num_slots": 0}, ValueError, "num_slots must be at least 1, however: "
         "num_slots=0"),
        ((TWO,), {"num_slots": 2.0}, TypeError, "num_slots must be an int, however: "
         "num_slots=2.0"),
        ((TWO,), {"dropout": 1.0}, ValueError, "dropout must be in [0, 1), however: dropout=1.0"),
        ((TWO,), {"model_dim": 9, "num_heads": 2}, ValueError, "model_dim must be a multiple of "
         "num_heads, however: model_dim=9, num_heads=2"),
        ((TWO,), {"num_places": -1}, ValueError, "num_places must be at least 0, however: "
         "num_places=-1"),
        (({"a": 3, "b": 0},), {}, ValueError, "modality_dims['b'] must be at least 1, however: "
         "modality_dims['b']=0"),
    ],
)  # fmt: skip
def test_constructor_refuses(args, options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        ModalityImputer(*args, **{**ONE, **options})


@pytest.mark.parametrize(
    ("module", "modalities", "options", "error", "message"),
    [
        (MODULE, {}, {}, ValueError, "modalities must hold at least 1 modality, however: its "
         "names are []"),
        (MODULE, X, {}, TypeError, "modalities must be a mapping of modality names, however: "
         "type(modalities)=Tensor"),
        (MODULE, {"c": X}, {}, ValueError, "modalities must have names of ('a', 'b'), however: "
         "'c'"),
        (MODULE, {"a": None}, {}, TypeError, "modalities['a'] must be a Tensor (leave the key "
         "out, or mark its rows False in valid), however: modalities['a']=None"),
        (MODULE, {"a": X[:, 0]}, {}, ValueError, "modalities['a'] must have shape (B, L, 3), for "
         "one vector per sample (B, 1, D): call unsqueeze(1), however: "
         "modalities['a'].shape=(2, 3)"),
        (MODULE, {"a": X.long()}, {}, TypeError, "modalities['a'] must be floating (embed tokens "
         "first), however: modalities['a'].dtype=torch.int64"),
        (MODULE, {"a": Y}, {}, ValueError, "modalities['a'] must have 3 features (the size of "
         "'a') in its last dimension, however: modalities['a'].shape=(2, 5, 4)"),
        (MODULE, {"a": X, "b": Y[:1]}, {}, ValueError, "modalities must have one batch size, "
         "however: 'a' has 2 and 'b' has 1"),
        (MODULE, {"a": X.to("meta")}, {}, ValueError, "modalities['a'] must be on cpu, however: "
         "modalities['a'].device=meta"),
        (MODULE, {"a": X}, {"valid": {"b": VALID}}, ValueError, "valid must have names of ('a',) "
         "(modalities), however: 'b'"),
        (MODULE, AB, {"valid": {"a": VALID[:, 1:]}}, ValueError, "valid['a'] must have shape "
         "(2, 5), however: valid['a'].shape=(2, 4)"),
        (MODULE, AB, {"target_valid": {"c": VALID}}, ValueError, "target_valid must have names "
         "of ('a',) (targets), however: 'c'"),
        (MODULE, AB, {"target_valid": {"b": VALID}}, ValueError, "target_valid must have names "
         "of ('a',) (targets), however: 'b'"),
        (MODULE, AB, {"target_valid": {"a": VALID[:, 1:]}}, ValueError, "target_valid['a'] must "
         "have shape (2, 5), however: target_valid['a'].shape=(2, 4)"),
        (MODULE, {"b": Y}, {"target_valid": {"a": VALID[:1]}}, ValueError, "target_valid['a'] "
         "must have shape (2, 5), however: target_valid['a'].shape=(1, 5)"),
        (MODULE, {"b": Y}, {"target_valid": {"a": VALID[0]}}, ValueError, "target_valid['a'] "
         "must have shape (B, L), however: target_valid['a'].shape=(5,)"),
        (MODULE, AB, {"target_valid": {"a": VALID.float()}}, TypeError, "target_valid['a'] must "
         "be bool, however: target_valid['a'].dtype=torch.float32"),
        (MODULE, AB, {"target_valid": {"a": VALID.to("meta")}}, ValueError, "target_valid['a'] "
         "must be on cpu, however: target_valid['a'].device=meta"),
        (MODULE, AB, {"target_valid": {"a": None}}, TypeError, "target_valid['a'] must be a "
         "Tensor (leave the key out, or mark its rows False in valid), however: "
         "target_valid['a']=None"),
        (MODULE, AB, {"target_valid": VALID}, TypeError, "target_valid must be a mapping of "
         "modality names, however: type(target_valid)=Tensor"),
        (ALIGNED, {"a": X, "b": Y[:, 1:]}, {}, ValueError, "modalities must have one length "
         "(aligned=True), however: {'a': 5, 'b': 4}"),
        (ALIGNED, {"a": X}, {"target_valid": {"b": VALID[:, 1:]}}, ValueError, "modalities must "
         "have one length (aligned=True), however: {'a': 5, 'b': 4}"),
        (MODULE, AB, {"rows": [0]}, TypeError, "rows must be a Tensor, however: type(rows)=list"),
        (MODULE, AB, {"rows": VALID[:, 0]}, TypeError, "rows must be int64, however: "
         "rows.dtype=torch.bool"),
        (MODULE, AB, {"rows": ROWS.int()}, TypeError, "rows must be int64, however: "
         "rows.dtype=torch.int32"),
        (MODULE, AB, {"rows": ROWS.view(1, 2)}, ValueError, "rows must have shape (R,), however: "
         "rows.shape=(1, 2)"),
        (MODULE, AB, {"rows": ROWS.to("meta")}, ValueError, "rows must be on the CPU (elsewhere "
         "reading them would stop the device), however: rows.device=meta"),
        (MODULE, AB, {"rows": ROWS}, ValueError, "rows must be in [0, 2), however: from 0 to 2"),
        (MODULE, AB, {"rows": ROWS - 1}, ValueError, "rows must be in [0, 2), however: from -1 "
         "to 1"),
        (MODULE, AB, {"rows": ROWS // 3}, ValueError, "rows must differ from each other, "
         "however: [0, 0]"),
    ],
)  # fmt: skip
def test_forward_refuses(module, modalities, options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$") as raised:
        module(modalities, **options)
    assert raised.type is error


def test_inputs_are_left_as_they_are():
    module, batch = built("unaligned"), make_batch("unaligned").put(torch.nan)
    before = copy.deepcopy(batch)
    call(module, batch)
    for name in DIMS:
        assert torch.equal(before.x[name].nan_to_num(7.0), batch.x[name].nan_to_num(7.0))
        assert torch.equal(before.valid[name], batch.valid[name])
        assert torch.equal(before.exists[name], batch.exists[name])
