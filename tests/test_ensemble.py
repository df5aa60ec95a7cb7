"""TranslatorEnsemble: by hand, with members of users, and what members are handed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modimpute import ModalityTranslator, TranslatorEnsemble

SIZES = {"model_dim": 8, "num_heads": 2, "num_layers": 1, "dropout": 0.0}


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randomize(module, seed=0):
    """Draws every parameter, the learned vectors that start at zero included."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for x in module.parameters():
            x.copy_(torch.randn(x.shape, generator=g, dtype=x.dtype) * 0.4)
    return module


class Echo(nn.Module):
    """A member that answers its source and keeps what it was given."""

    def __init__(self, target_dim=None, junk=None):
        super().__init__()
        self.calls, self.junk = [], junk
        if target_dim is not None:
            self.target_dim = target_dim

    def forward(self, source, *, valid=None, target_length=None):
        self.calls.append({"source": source, "valid": valid, "target_length": target_length})
        if self.junk is not None and valid is not None:
            return source.masked_fill(~valid.unsqueeze(-1), self.junk)
        return source


class Informed(Echo):
    """One that also takes ``target_valid``."""

    def forward(self, source, *, valid=None, target_length=None, target_valid=None):
        out = super().forward(source, valid=valid, target_length=target_length)
        self.calls[-1]["target_valid"] = target_valid
        return out


class Joint(nn.Module):
    """A member that reads several sources at once, and answers their sum."""

    aligned = True

    def __init__(self, *modalities):
        super().__init__()
        self.modalities, self.calls = tuple(sorted(modalities)), []

    def forward(self, source, *, valid=None, target_length=None):
        self.calls.append({"source": source, "valid": valid, "target_length": target_length})
        return sum(source.values())


class Unaligned(nn.Module):
    """A member of another length than the target: it answers the mean of its source."""

    aligned = False

    def __init__(self, target_dim):
        super().__init__()
        self.target_dim = target_dim

    def forward(self, source, *, valid=None, target_length=None):
        kept = source if valid is None else source.masked_fill(~valid.unsqueeze(-1), 0.0)
        return kept.mean(1, keepdim=True).expand(-1, target_length, -1)


class GRUMember(nn.Module):
    """A user's own: it knows nothing of the library."""

    def __init__(self, source_dim, target_dim):
        super().__init__()
        self.gru = nn.GRU(source_dim, target_dim, batch_first=True)

    def forward(self, source, *, valid=None, target_length=None):
        del valid, target_length
        return self.gru(source)[0]


class Bare(nn.Module):
    """Stands for the further transformer: what goes in comes out."""

    def forward(self, x, by, mask):
        del by
        self.mask = mask
        return x


def bare(members, target_dim=8, **options):
    """An ensemble whose further transformer does nothing, so that it is a linear map."""
    ensemble = randomize(
        TranslatorEnsemble(members, target_dim, **SIZES, dtype=torch.float64, **options)
    )
    ensemble.transformer = Bare()
    with torch.no_grad():
        ensemble.output.weight.copy_(torch.eye(8))
        ensemble.output.bias.zero_()
    return ensemble


def rows(*lists):
    return torch.tensor(lists, dtype=torch.bool)


class TestByHand:
    def test_one_matrix_per_source_is_a_linear_on_the_concatenation(self):
        ensemble = bare({"b": Echo(3), "a": Echo(2)})
        sources = {"b": draw(2, 4, 3), "a": draw(2, 4, 2, seed=1)}
        inputs = ensemble.inputs
        weight = torch.cat((inputs["a"].weight, inputs["b"].weight), 1)
        together = torch.cat((sources["a"], sources["b"]), -1)
        out = ensemble(sources)
        torch.testing.assert_close(
            out, F.linear(together, weight, inputs["a"].bias + inputs["b"].bias)
        )

    def test_a_learned_vector_stands_where_a_source_says_nothing(self):
        ensemble = bare({"a": Echo(2), "b": Echo(3)})
        sources = {"a": draw(2, 4, 2), "b": draw(2, 4, 3, seed=1)}
        valid = {"a": rows([1, 0, 1, 0], [1, 1, 1, 1]), "b": rows([1, 1, 0, 0], [0, 0, 0, 0])}
        a, b = ensemble.inputs["a"], ensemble.inputs["b"]
        expected = torch.empty(2, 4, 8, dtype=torch.float64)
        for i in range(2):
            for t in range(4):
                expected[i, t] = 0.0
                for name, entry in (("a", a), ("b", b)):
                    told = entry.weight @ sources[name][i, t] + entry.bias
                    said = valid[name][i, t]
                    expected[i, t] += (told if said else entry.missing).detach()
        everywhere = torch.ones(2, 4, dtype=torch.bool)
        out = ensemble(sources, valid=valid, target_valid=everywhere)
        torch.testing.assert_close(out, expected)
        # by key
        out = ensemble({"a": sources["a"]}, target_valid=everywhere)
        told = F.linear(sources["a"], a.weight, a.bias) + b.missing
        torch.testing.assert_close(out, told)

    def test_is_combine_of_translate(self):
        members = {"a": ModalityTranslator(2, 5, **SIZES), "b": ModalityTranslator(3, 4, **SIZES)}
        ensemble = randomize(TranslatorEnsemble(members, 6, **SIZES))
        sources = {"a": draw(2, 4, 2), "b": draw(2, 4, 3, seed=1)}
        translations = ensemble.translate(sources)
        assert {name: tuple(x.shape) for name, x in translations.items()} == {
            "a": (2, 4, 5),
            "b": (2, 4, 4),
        }
        torch.testing.assert_close(ensemble.combine(translations), ensemble(sources))
        only = {"b": sources["b"]}
        assert list(ensemble.translate(only)) == ["b"]
        for mode in (True, False):  # in training absent members run too, and say nothing
            ensemble.train(mode)
            out = ensemble.combine(ensemble.translate(only))
            torch.testing.assert_close(out, ensemble(only))

    def test_is_combine_of_translate_with_gaps(self):
        members = {"a": ModalityTranslator(2, 5, **SIZES), "b": Echo(3)}
        ensemble = randomize(TranslatorEnsemble(members, 6, **SIZES))
        sources = {"a": draw(3, 4, 2), "b": draw(3, 4, 3, seed=1)}
        valid = {
            "a": rows([1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]),
            "b": rows([1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]),
        }
        exists = rows([1, 1, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1])
        heard = {
            "a": rows([1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]),  # fills its gaps
            "b": valid["b"],  # does not
        }
        translations = ensemble.translate(sources, valid=valid)
        for name, x in translations.items():
            assert x[~heard[name]].eq(0).all()
        out = ensemble.combine(translations, available=heard, target_valid=exists)
        torch.testing.assert_close(out, ensemble(sources, valid=valid))

    def test_combine_reads_only_what_is_available(self):
        ensemble = bare({"a": Echo(2), "b": Echo(3)})
        a, b = ensemble.inputs["a"], ensemble.inputs["b"]
        translations = {"a": draw(1, 2, 2), "b": torch.full((1, 2, 3), torch.nan)}
        out = ensemble.combine(translations, available={"b": rows([0, 0])})
        told = F.linear(translations["a"], a.weight, a.bias)
        torch.testing.assert_close(out, told + b.missing)
        exists = rows([0, 1])
        out = ensemble.combine({"a": translations["a"]}, target_valid=exists)
        torch.testing.assert_close(out, (told + b.missing) * exists.unsqueeze(-1))

    def test_gaps_in_time_are_seen_by_the_further_transformer(self):
        ensemble = bare({"a": Echo(2)})
        exists = rows([1, 0, 1], [0, 0, 0])
        ensemble({"a": draw(2, 3, 2)}, target_valid=exists)
        assert (ensemble.transformer.mask == 0).tolist() == [
            [[[True, False, True]]],
            [[[True] * 3]],
        ]

    def test_places_count_from_the_first_target_step(self):
        ensemble = bare({"a": Echo(2)}, num_places=2)
        a, x = ensemble.inputs["a"], draw(2, 4, 2)
        exists = rows([1, 1, 1, 1], [0, 1, 1, 1])
        told = F.linear(x, a.weight, a.bias)
        out = ensemble({"a": x}, target_valid=exists)
        first, last = ensemble.places.weight
        torch.testing.assert_close(out[0], told[0] + torch.stack((first, last, last, last)))
        torch.testing.assert_close(out[1, 1:], told[1, 1:] + torch.stack((first, last, last)))


class TestTargetValid:
    def test_default_is_the_union_and_all_steps_for_a_sample_with_none(self):
        ensemble = randomize(TranslatorEnsemble({"a": Echo(2), "b": Echo(3)}, 2, **SIZES))
        sources = {"a": draw(3, 4, 2), "b": draw(3, 4, 3, seed=1)}
        valid = {
            "a": rows([1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]),
            "b": rows([0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]),
        }
        out = ensemble(sources, valid=valid)
        exists = rows([1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1])
        assert torch.equal(out.ne(0).any(-1), exists)
        torch.testing.assert_close(ensemble(sources, valid=valid, target_valid=exists), out)
        out = ensemble(sources, valid={"a": valid["a"]})  # the other one has all steps
        assert out.ne(0).any(-1).all()

    def test_default_is_all_steps_if_a_member_is_unaligned(self):
        ensemble = randomize(TranslatorEnsemble({"a": Echo(2), "b": Unaligned(3)}, 2, **SIZES))
        assert not ensemble.aligned
        sources = {"a": draw(1, 4, 2), "b": draw(1, 9, 3, seed=1)}
        valid = {"a": rows([1, 0, 0, 0]), "b": rows([0] * 9)}
        assert ensemble(sources, valid=valid, target_length=4).ne(0).any(-1).all()

    def test_no_valid_is_all_valid(self):
        members = {"a": ModalityTranslator(2, 5, **SIZES), "b": ModalityTranslator(3, 4, **SIZES)}
        ensemble = randomize(TranslatorEnsemble(members, 6, **SIZES))
        sources = {"a": draw(2, 4, 2), "b": draw(2, 4, 3, seed=1)}
        gaps, everywhere = rows([1, 0, 1, 0], [0, 0, 1, 1]), torch.ones(2, 4, dtype=torch.bool)
        told = ensemble(sources, valid={"a": gaps, "b": everywhere})
        torch.testing.assert_close(ensemble(sources, valid={"a": gaps}), told)
        told = ensemble(sources, valid={"a": everywhere, "b": everywhere})
        for valid in (None, {}, {"a": everywhere}):
            torch.testing.assert_close(ensemble(sources, valid=valid), told)

    def test_is_handed_on_to_members_that_take_it(self):
        members = {"a": Informed(2), "b": Echo(3)}
        ensemble = TranslatorEnsemble(members, 2, **SIZES)
        sources = {"a": draw(1, 4, 2), "b": draw(1, 4, 3, seed=1)}
        exists = rows([1, 1, 0, 1])
        ensemble(sources, target_valid=exists)
        assert torch.equal(members["a"].calls[0]["target_valid"], exists)
        valid = {"a": rows([1, 0, 0, 0]), "b": rows([0, 1, 0, 0])}
        ensemble(sources, valid=valid)  # the union, by default
        assert torch.equal(members["a"].calls[1]["target_valid"], rows([1, 1, 0, 0]))
        assert members["b"].calls[1]["target_length"] == 4
        assert torch.equal(members["b"].calls[1]["valid"], valid["b"])

    def test_steps_that_do_not_exist_are_not_read(self):
        ensemble = randomize(TranslatorEnsemble({"a": Echo(2)}, 2, **SIZES))
        exists, other = rows([1, 1, 0, 1]), draw(1, 4, 2)
        other[0, 2] += 7.0
        outs = [ensemble({"a": x}, target_valid=exists) for x in (draw(1, 4, 2), other)]
        torch.testing.assert_close(*outs)
        assert outs[0][0, 2].eq(0).all()


class TestMembers:
    def test_are_handed_zeros_at_steps_that_are_not_valid(self):
        members = {"a": Echo(2), "both": Joint("a", "b")}
        members["both"].target_dim = 2
        ensemble = TranslatorEnsemble(members, 2, **SIZES)
        valid = {"a": rows([1, 0, 1, 0], [0, 0, 0, 0]), "b": rows([0, 1, 0, 1], [1, 1, 1, 1])}
        for junk in (torch.nan, torch.inf, 1e30):
            sources = {
                name: draw(2, 4, 2).masked_fill(~valid[name].unsqueeze(-1), junk)
                for name in ("a", "b")
            }
            ensemble(sources, valid=valid)
            handed = [members["a"].calls[-1]["source"]]
            handed += members["both"].calls[-1]["source"].values()
            for x, there in zip(handed, [valid["a"], valid["a"], valid["b"]], strict=True):
                torch.testing.assert_close(
                    x, draw(2, 4, 2).float().masked_fill(~there.unsqueeze(-1), 0.0)
                )

    def test_what_they_say_of_nothing_is_not_read(self):
        sources, outs = {"a": draw(2, 4, 2), "b": draw(2, 4, 3, seed=1)}, []
        valid = {"a": rows([1, 0, 1, 0], [0, 0, 0, 0])}
        for junk in (0.0, torch.nan, torch.inf):
            members = {"a": Echo(2, junk), "b": Echo(3)}
            ensemble = randomize(TranslatorEnsemble(members, 2, **SIZES))
            outs.append(ensemble(sources, valid=valid))
            assert ensemble.translate(sources, valid=valid)["a"][~valid["a"]].eq(0).all()
        assert all(torch.equal(out, outs[0]) for out in outs)

    def test_may_have_any_width(self):
        for widths in [(2, 3), (1, 8)]:
            members = {
                n: ModalityTranslator(2, w, **SIZES) for n, w in zip("ab", widths, strict=True)
            }
            ensemble = TranslatorEnsemble(members, 5, **SIZES)
            assert [ensemble.inputs[name].weight.shape[1] for name in "ab"] == list(widths)
            assert ensemble({"a": draw(1, 3, 2), "b": draw(1, 3, 2)}).shape == (1, 3, 5)
        assert TranslatorEnsemble({"a": Echo()}, 5, **SIZES).inputs["a"].weight.shape[1] == 5

    def test_may_be_the_users_own_recurrent_network(self):
        gru = GRUMember(3, 2)
        ensemble = TranslatorEnsemble({"a": gru, "b": ModalityTranslator(2, 4, **SIZES)}, 2)
        sources = {"a": draw(2, 4, 3).float(), "b": draw(2, 4, 2).float()}
        valid = {"a": rows([1, 1, 0, 0], [0, 0, 0, 0])}
        ensemble(sources, valid=valid).sum().backward()
        assert all(x.grad.isfinite().all() for x in gru.parameters())
        kept = sources["a"].masked_fill(~valid["a"].unsqueeze(-1), 0.0)
        torch.testing.assert_close(
            ensemble.translate(sources, valid=valid)["a"],
            gru(kept).masked_fill(~valid["a"].unsqueeze(-1), 0.0),
        )

    def test_joint_one_reads_the_sources_that_there_are(self):
        joint = Joint("a", "b")
        ensemble = TranslatorEnsemble({"both": joint, "c": Echo(3)}, 2, **SIZES)
        assert ensemble.modalities == ("a", "b", "c")
        a, b, c = draw(2, 4, 2), draw(2, 4, 2, seed=1), draw(2, 4, 3)
        valid = {"b": rows([1, 1, 1, 0], [0, 0, 0, 0])}
        said = ensemble.translate({"c": c, "b": b, "a": a}, valid=valid)
        assert list(joint.calls[0]["source"]) == ["a", "b"]
        assert list(joint.calls[0]["valid"]) == ["b"]
        kept = b.masked_fill(~valid["b"].unsqueeze(-1), 0.0)
        torch.testing.assert_close(said["both"], (a + kept).float())
        said = ensemble.translate({"c": c, "b": b}, valid=valid)
        assert list(joint.calls[1]["source"]) == ["b"]
        assert said["both"][1].eq(0).all()
        assert list(ensemble.translate({"c": c})) == ["c"]
        assert len(joint.calls) == 2

    def test_may_be_another_ensemble(self):
        inner = TranslatorEnsemble(
            {"a": ModalityTranslator(2, 4, **SIZES), "b": ModalityTranslator(3, 4, **SIZES)},
            5,
            **SIZES,
        )
        outer = TranslatorEnsemble(
            {"ab": inner, "c": ModalityTranslator(2, 5, **SIZES)}, 5, **SIZES
        )
        randomize(outer)
        assert outer.modalities == ("a", "b", "c")
        sources = {"a": draw(2, 4, 2), "b": draw(2, 4, 3), "c": draw(2, 4, 2)}
        valid = {
            "a": rows([1, 0, 1, 0], [0, 0, 0, 0]),
            "b": rows([0, 1, 0, 0], [0, 0, 0, 0]),
            "c": rows([1, 1, 1, 0], [1, 1, 1, 1]),
        }
        exists = rows([1, 1, 1, 0], [1, 1, 1, 1])
        said = outer.translate(sources, valid=valid)
        own = {name: sources[name] for name in "ab"}
        own_valid = {name: valid[name] for name in "ab"}
        expected = inner(own, valid=own_valid, target_valid=exists)
        torch.testing.assert_close(said["ab"][0], expected[0])
        assert said["ab"][1].eq(0).all()  # none of its sources is there: it says nothing
        out = outer(sources, valid=valid)
        assert torch.equal(out.ne(0).any(-1), exists)
        by_key = outer({"c": sources["c"]}, valid={"c": valid["c"]})
        torch.testing.assert_close(by_key[1], out[1])

    @pytest.mark.parametrize("nested", [False, True])
    def test_all_parameters_take_part_when_sources_are_absent(self, nested):
        members = {"a": ModalityTranslator(2, 4, **SIZES), "b": ModalityTranslator(3, 4, **SIZES)}
        if nested:
            members = {"ab": TranslatorEnsemble(members, 5, **SIZES)}
        members["c"] = ModalityTranslator(2, 5, **SIZES, aligned=False)
        ensemble = TranslatorEnsemble(members, 5, **SIZES)
        sources = {"a": draw(2, 4, 2), "b": draw(2, 4, 3), "c": draw(2, 7, 2)}
        for given in ("a", "b", "c", "ab", "abc"):
            ensemble.zero_grad()
            ensemble({name: sources[name] for name in given}, target_length=4).sum().backward()
            lacking = [name for name, x in ensemble.named_parameters() if x.grad is None]
            assert not lacking, given

    def test_lengths_of_an_unaligned_member(self):
        members = {"a": ModalityTranslator(2, 4, **SIZES, aligned=False), "b": Unaligned(3)}
        ensemble = randomize(TranslatorEnsemble(members, 5, **SIZES))
        sources = {"a": draw(2, 4, 2), "b": draw(2, 9, 3)}
        out = ensemble(sources, target_length=6)
        assert out.shape == (2, 6, 5)
        exists = torch.ones(2, 6, dtype=torch.bool)
        torch.testing.assert_close(ensemble(sources, target_valid=exists), out)
        assert ensemble({"b": sources["b"]}, target_length=2).shape == (2, 2, 5)

    def test_mixed_with_an_aligned_one(self):
        members = {"a": Echo(2), "b": Unaligned(3)}
        ensemble = TranslatorEnsemble(members, 5, **SIZES)
        sources = {"a": draw(2, 4, 2), "b": draw(2, 9, 3)}
        assert ensemble(sources, target_length=4).shape == (2, 4, 5)

    def test_may_take_any_keywords(self):
        class Anything(nn.Module):
            def forward(self, source, **options):
                self.options = options
                return source

        member = Anything()
        TranslatorEnsemble({"a": member}, 2, **SIZES)({"a": draw(1, 3, 2)})
        assert set(member.options) == {"valid", "target_length", "target_valid"}


def test_any_names_are_kept_one_to_one_in_sorted_order():
    names = ["keys", "a.b", "a%2Eb", "a%252Eb", "%", ".", "@a", "type"]
    build = [TranslatorEnsemble({n: Echo(2) for n in order}, 2, **SIZES)
             for order in (names, names[::-1])]  # fmt: skip
    state = list(build[0].state_dict())
    assert state == list(build[1].state_dict())
    assert sum(key.endswith(".missing") for key in state) == len(names)
    assert "inputs.@a%2Eb.weight" in state
    assert build[0].modalities == tuple(sorted(names))
    randomize(build[0])
    build[1].load_state_dict(build[0].state_dict())
    sources = {name: draw(1, 3, 2, seed=i) for i, name in enumerate(names)}
    torch.testing.assert_close(*[ensemble(sources) for ensemble in build])
    for i, name in enumerate(names):
        said = build[i % 2].translate({name: sources[name]})
        torch.testing.assert_close(said[name], sources[name].float())


def test_the_order_of_members_is_not_that_of_the_dict():
    orders = []
    for names in ("ab", "ba"):  # the order of parameters is that of an optimizer's state
        members = {name: ModalityTranslator(2, 2, **SIZES) for name in names}
        orders.append(list(TranslatorEnsemble(members, 2, **SIZES).state_dict()))
    assert orders[0] == orders[1]


def test_one_source_and_sizes_that_are_zero():
    ensemble = TranslatorEnsemble({"a": ModalityTranslator(2, 3, **SIZES)}, 3, **SIZES)
    for size, length in [(1, 1), (0, 4), (2, 0), (0, 0)]:
        assert ensemble({"a": draw(size, length, 2)}).shape == (size, length, 3)


@pytest.mark.parametrize("aligned", [True, False])
def test_gradcheck(aligned):
    members = {
        name: ModalityTranslator(2, 2, **SIZES | {"model_dim": 4}, aligned=aligned)
        for name in "ab"
    }
    ensemble = TranslatorEnsemble(members, 1, **SIZES | {"model_dim": 4}).double()
    randomize(ensemble)
    valid = {"a": rows([1, 0, 1], [0, 0, 0]), "b": rows([1, 1, 0], [0, 0, 0])}
    exists = rows([1, 0, 1], [1, 1, 1])
    names, parameters = zip(*ensemble.named_parameters(), strict=True)

    def forward(a, b, *parameters):
        state = dict(zip(names, parameters, strict=True))
        options = {"valid": valid, "target_valid": exists}
        return torch.func.functional_call(ensemble, state, ({"a": a, "b": b},), options)

    sources = [draw(2, 3, 2, seed=seed).requires_grad_() for seed in range(2)]
    assert torch.autograd.gradcheck(forward, (*sources, *parameters), fast_mode=True)
