"""CrossModalAttentionFusion: an independent reading of it, pools and shares by hand."""

import numpy as np
import pytest
import reference
import torch
from test_transformer import Widths

import modimpute._cross
from modimpute import CrossModalAttentionFusion

DIMS = {"text": 3, "audio": 2, "vision": 4}
NAMES = ("audio", "text", "vision")
LENGTHS = {"text": 3, "audio": 6, "vision": 5}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(dims=DIMS, **options):
    options = {"model_dim": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0} | options
    fusion = CrossModalAttentionFusion(dims, **options, dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in fusion.parameters():
            x.copy_(torch.randn(x.shape, generator=g, dtype=x.dtype) * 0.4)
    return fusion


def make_batch(size=2, lengths=LENGTHS):
    return {
        name: draw(size, length, DIMS[name], seed=i)
        for i, (name, length) in enumerate(lengths.items())
    }


def ragged():
    """Samples that are complete, padded at either end, and lack one or two modalities."""
    spans = {  # of each sample: first and last valid step, None: missing
        "text": [(0, 3), (1, 3), (0, 2), None],
        "audio": [(0, 6), (0, 4), None, (2, 5)],
        "vision": [(0, 5), (2, 5), (0, 1), None],
    }
    valid = {name: torch.zeros(4, LENGTHS[name], dtype=torch.bool) for name in spans}
    for name, rows in spans.items():
        for i, span in enumerate(rows):
            if span:
                valid[name][i, slice(*span)] = True
    return make_batch(4), valid


def samples(batch, valid):
    """Each sample without padding and without what it lacks."""
    size = next(iter(batch.values())).shape[0]
    for i in range(size):
        yield (
            i,
            {
                name: batch[name][i][valid[name][i]].numpy()
                for name in NAMES
                if valid[name][i].any()
            },
        )


class TestFormula:
    @pytest.mark.parametrize(("heads", "layers", "places"), [(1, 1, 0), (2, 2, 0), (2, 1, 3)])
    def test_sequences(self, heads, layers, places):
        fusion = build(num_heads=heads, num_layers=layers, num_places=places)
        batch, valid = ragged()
        junk = {
            name: x.masked_fill(~valid[name].unsqueeze(-1), torch.nan) for name, x in batch.items()
        }
        attended = fusion.attend(junk, valid=valid)
        assert list(attended) == list(NAMES)
        for i, sample in samples(batch, valid):
            expected, _ = reference.fusion(fusion, sample)
            for name in NAMES:
                there = valid[name][i]
                out = attended[name][i].detach()
                assert out[~there].eq(0).all()
                if name in sample:
                    np.testing.assert_allclose(out[there].numpy(), expected[name], atol=1e-5)

    @pytest.mark.parametrize(("heads", "layers"), [(1, 1), (2, 2)])
    def test_sequences_and_shares_through_latents(self, heads, layers):
        fusion = build(num_heads=heads, num_layers=layers, num_latents=3)
        batch, valid = ragged()
        attended = fusion.attend(batch, valid=valid)
        weights = fusion.attention_weights(batch, valid=valid)
        for i, sample in samples(batch, valid):
            expected, shares = reference.latent_fusion(fusion, sample)
            for name in NAMES:
                there = valid[name][i]
                out = attended[name][i].detach()
                assert out[~there].eq(0).all()
                if name in sample:
                    np.testing.assert_allclose(out[there].numpy(), expected[name], atol=1e-5)
                for other, told in weights[name].items():
                    assert told[i][~there].eq(0).all()
                    if name in sample and other in sample:
                        found = told[i][there].numpy()
                        np.testing.assert_allclose(found, shares[name][other], atol=1e-5)
                    else:
                        assert told[i].eq(0).all()

    def test_fresh_latents_hold_different_things(self):
        torch.manual_seed(0)
        fusion = CrossModalAttentionFusion({"text": 3, "audio": 2}, num_latents=8).eval()
        held = []
        norm = fusion.latents.blocks[-1].attention_norm
        norm.register_forward_hook(lambda _module, _input, out: held.append(out))
        fusion({"text": torch.randn(4, 20, 3), "audio": torch.randn(4, 30, 2)})
        assert len(held) == 2
        for latents in held:  # before and after the last block has read
            alike = latents.mean(1).norm(dim=-1) / latents.norm(dim=-1).mean(1)
            assert alike.max() < 0.7  # 1: all are the same

    def test_aligned_modalities_meet_latents_on_one_clock(self):
        # Audio has steps 2 and 3 only; on a clock of its own they would be the whole span.
        fusion = build(aligned=True, num_latents=3)
        batch, late = (
            make_batch(1, dict.fromkeys(DIMS, 4)),
            torch.tensor([[False] * 2 + [True] * 2]),
        )
        early = late.flip(-1)
        moved = batch | {"audio": batch["audio"].roll(-2, 1)}
        out = fusion.attend(batch, valid={"audio": late})["text"]
        assert (fusion.attend(moved, valid={"audio": early})["text"] - out).abs().amax() > 1e-3

    def test_aligned_sequences(self):
        fusion, lengths = build(aligned=True, num_places=3), dict.fromkeys(DIMS, 5)
        batch = make_batch(2, lengths)
        attended = fusion.attend(batch)
        everywhere = {name: torch.ones(2, 5, dtype=torch.bool) for name in DIMS}
        for i, sample in samples(batch, everywhere):
            expected, _ = reference.fusion(fusion, sample)
            for name in NAMES:
                out = attended[name][i].detach().numpy()
                np.testing.assert_allclose(out, expected[name], atol=1e-6)

    def test_aligned_steps_keep_their_place_behind_a_leading_gap(self):
        dims = {"audio": 2, "text": 3}
        fusion = build(dims, aligned=True, num_layers=1, num_places=3)
        batch = {"audio": draw(1, 4, 2), "text": draw(1, 4, 3)}
        valid = {"audio": torch.tensor([[False, False, True, True]])}
        # Text reads steps 2 and 3 of audio, at their own time.
        p, heads = reference.numbers(fusion), fusion.num_heads
        x = {}
        for name in dims:
            h = reference.linear(p, f"towers.@{name}.input", batch[name][0].numpy())
            x[name] = h + reference.places(p, f"towers.@{name}.places", 4)
        projected = {
            name: reference.project(
                p,
                f"towers.@{name}.blocks.0.attention",
                reference.layer_norm(p, f"towers.@{name}.blocks.0.attention_norm", x[name]),
                np.arange(4),
                heads,
            )
            for name in dims
        }
        _, key, value = projected["audio"]
        told, _ = reference.read(
            p,
            "towers.@text.blocks.0.attention",
            projected["text"][0],
            [k[2:] for k in key],
            [v[2:] for v in value],
        )
        expected = reference.feedforward(p, "towers.@text.blocks.0", x["text"] + told)
        expected = reference.layer_norm(p, "towers.@text.norm", expected)
        out = fusion.attend(batch, valid=valid)["text"][0].detach().numpy()
        np.testing.assert_allclose(out, expected, atol=1e-6)

    @pytest.mark.parametrize("layers", [1, 2])
    def test_shares_of_attention(self, layers):
        fusion = build(num_layers=layers)
        batch, valid = ragged()
        weights = fusion.attention_weights(batch, valid=valid)
        assert {name: sorted(row) for name, row in weights.items()} == {
            name: [other for other in NAMES if other != name] for name in NAMES
        }
        for i, sample in samples(batch, valid):
            _, expected = reference.fusion(fusion, sample)
            for name in NAMES:
                for other, shares in weights[name].items():
                    there = valid[name][i]
                    assert shares[i][~there].eq(0).all()
                    if name in sample and other in sample:
                        told = shares[i][there].numpy()
                        np.testing.assert_allclose(told, expected[name][other], atol=1e-5)
                    else:
                        assert shares[i].eq(0).all()


class TestShares:
    def test_sum_to_one_where_there_is_something_to_read(self):
        batch, valid = ragged()
        weights = build().attention_weights(batch, valid=valid)
        for name, row in weights.items():
            others = torch.stack([valid[o].any(-1) for o in row]).any(0)
            expected = valid[name] & others.unsqueeze(-1)
            total = sum(row.values())
            torch.testing.assert_close(total, expected.to(total.dtype), atol=1e-6, rtol=0)

    def test_are_told_of_the_modalities_given_only(self):
        batch = make_batch()
        fusion = build()
        weights = fusion.attention_weights({name: batch[name] for name in ("text", "audio")})
        assert {name: list(row) for name, row in weights.items()} == {
            "audio": ["text"],
            "text": ["audio"],
        }
        assert weights["text"]["audio"].shape == (2, 3)
        torch.testing.assert_close(weights["audio"]["text"], torch.ones(2, 6).double())
        weights = fusion.attention_weights({"text": batch["text"]})
        assert weights == {"text": {}}

    def test_long_sequences_are_looked_at_in_chunks(self, monkeypatch):
        lengths = {"text": 150, "audio": 70, "vision": 64}
        fusion, batch = build(), make_batch(1, lengths)
        chunked = fusion.attention_weights(batch)
        monkeypatch.setattr(modimpute._cross, "QUERIES", 1_000)
        whole = fusion.attention_weights(batch)
        for name in NAMES:
            for other, shares in whole[name].items():
                assert shares.shape == (1, lengths[name])
                torch.testing.assert_close(chunked[name][other], shares)

    def test_have_no_gradient(self):
        weights = build().attention_weights(make_batch())
        assert not any(x.requires_grad for row in weights.values() for x in row.values())


class TestPools:
    def slots(self, fusion, batch, valid):
        """The attended sequences and the slot of each modality, by name."""
        out = fusion(batch, valid=valid)
        assert out.shape == (4, fusion.output_dim) == (4, 24)
        slots = dict(zip(fusion.modalities, out.split(8, -1), strict=True))
        return fusion.attend(batch, valid=valid), slots

    def pooled(self, kind, fusion, name, steps):
        if kind == "mean":
            return sum(steps) / len(steps)
        if kind == "last":
            return steps[-1]
        scores = (steps * fusion.towers[name].query).sum(-1) / 8**0.5
        shares = scores.exp() / scores.exp().sum()
        return (shares.unsqueeze(-1) * steps).sum(0)

    @pytest.mark.parametrize("kind", ["mean", "last", "attention"])
    def test_by_hand(self, kind):
        fusion, (batch, valid) = build(pool=kind), ragged()
        valid["text"][0, 1] = valid["text"][2, 0] = False  # gaps, also a leading one
        valid["audio"][1, 3] = False
        attended, slots = self.slots(fusion, batch, valid)
        for name in NAMES:
            for i in range(4):
                there, slot = valid[name][i], slots[name][i]
                if there.any():
                    expected = self.pooled(kind, fusion, name, attended[name][i][there])
                else:
                    expected = fusion.towers[name].missing
                torch.testing.assert_close(slot, expected, atol=1e-6, rtol=1e-6)

    @pytest.mark.parametrize("kind", ["mean", "last", "attention"])
    def test_without_valid_all_steps_count(self, kind):
        fusion, batch = build(pool=kind), make_batch(4)
        attended, slots = self.slots(fusion, batch, None)
        everywhere = {n: torch.ones(x.shape[:2], dtype=torch.bool) for n, x in batch.items()}
        torch.testing.assert_close(fusion(batch), fusion(batch, valid=everywhere))
        for name in NAMES:
            expected = self.pooled(kind, fusion, name, attended[name][1])
            torch.testing.assert_close(slots[name][1], expected, atol=1e-6, rtol=1e-6)

    @pytest.mark.parametrize("kind", ["mean", "last", "attention"])
    def test_a_missing_slot_is_the_learned_vector_by_key_too(self, kind):
        fusion, batch = build(pool=kind), make_batch(4)
        missing = torch.zeros(4, 6, dtype=torch.bool)
        by_row = fusion(batch, valid={"audio": missing})
        by_key = fusion({name: x for name, x in batch.items() if name != "audio"})
        torch.testing.assert_close(by_key, by_row)
        expected = fusion.towers["audio"].missing.expand(4, -1)
        assert torch.equal(by_row[:, :8], expected)
        attended = fusion.attend({name: x for name, x in batch.items() if name != "audio"})
        assert list(attended) == ["text", "vision"]

    def test_attention_starts_as_the_mean(self):
        fusions = {
            pool: CrossModalAttentionFusion(DIMS, model_dim=8, dropout=0.0, pool=pool)
            for pool in ("mean", "attention")
        }
        fusions["attention"].load_state_dict(fusions["mean"].state_dict(), strict=False)
        batch, valid = ragged()
        outs = [fusion(batch, valid=valid) for fusion in fusions.values()]
        torch.testing.assert_close(*outs)

    def test_missing_vectors_are_zero_at_first(self):
        fusion = CrossModalAttentionFusion(DIMS, model_dim=8)
        out = fusion({"text": make_batch()["text"]})
        assert out[:, :8].eq(0).all()
        assert out[:, 8:16].ne(0).all()
        assert out[:, 16:].eq(0).all()

    def test_mean_of_many_steps_in_half_precision(self):
        fusion = CrossModalAttentionFusion({"a": 1, "b": 1}, model_dim=8, dropout=0.0).half()
        x = torch.ones(1, 4_000, 1, dtype=torch.float16)
        with torch.no_grad():
            fusion.towers["a"].norm.weight.fill_(30.0)  # 4000 * 30 is more than float16 holds
            for valid in (None, {"a": torch.ones(1, 4_000, dtype=torch.bool)}):
                out = fusion({"a": x, "b": x[:, :2]}, valid=valid)
                assert out.dtype == torch.float16
                assert out.isfinite().all()


@pytest.mark.parametrize("aligned", [True, False])
def test_sizes_that_are_zero(aligned):
    fusion = build(aligned=aligned)
    for size, length in [(1, 1), (0, 4), (2, 0), (0, 0)]:
        batch = make_batch(size, dict.fromkeys(DIMS, length))
        out = fusion(batch)
        assert out.shape == (size, 24)
        if not length:
            expected = [fusion.towers[name].missing for name in NAMES]
            torch.testing.assert_close(out, torch.cat(expected).expand(size, -1))
        assert fusion.attend(batch)["text"].shape == (size, length, 8)


@pytest.mark.parametrize("pool", ["mean", "last", "attention"])
def test_gradcheck(pool):
    dims = {"a": 2, "b": 1}
    fusion = build(dims, model_dim=4, num_layers=1, feedforward_dim=4, pool=pool)
    valid = {
        "a": torch.tensor([[True, False, True], [False, False, False]]),
        "b": torch.tensor([[True, True], [False, True]]),
    }
    names, parameters = zip(*fusion.named_parameters(), strict=True)

    def forward(a, b, *parameters):
        state = dict(zip(names, parameters, strict=True))
        batch = {"a": a, "b": b}
        return torch.func.functional_call(fusion, state, (batch,), {"valid": valid})

    inputs = draw(2, 3, 2).requires_grad_(), draw(2, 2, 1).requires_grad_()
    assert torch.autograd.gradcheck(forward, (*inputs, *parameters), fast_mode=True)


@pytest.mark.parametrize("latents", [0, 5])
def test_filled_up_heads_say_and_show_the_same(latents, amd):
    fusion = build(num_latents=latents, num_layers=1).float()
    lengths = {"text": 7, "audio": 9, "vision": 12}
    batch = {name: x.float() for name, x in make_batch(lengths=lengths).items()}
    found, shares = fusion(batch), fusion.attention_weights(batch)
    calls = []
    for width in (16, 4):
        amd(width == 16)
        with Widths() as seen:
            calls.append(fusion(batch))
        assert {heads[0] for heads in seen.heads} == {width}
    torch.testing.assert_close(calls[0], calls[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, calls[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        shares, fusion.attention_weights(batch), rtol=1e-4, atol=1e-5, check_stride=False
    )
