"""valid_from_lengths and collate_modalities, alone and in a DataLoader."""

from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader

from modimpute import CrossModalAttentionFusion, collate_modalities, valid_from_lengths

DIMS = {"text": 2, "audio": 1, "image": 3}


class TestValidFromLengths:
    def test_by_hand(self):
        valid = valid_from_lengths(torch.tensor([2, 0, 3, 1]), 3)
        assert valid.dtype == torch.bool
        assert valid.tolist() == [
            [True, True, False],
            [False, False, False],
            [True, True, True],
            [True, False, False],
        ]

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
    def test_any_integers(self, dtype):
        assert valid_from_lengths(torch.tensor([2, 1], dtype=dtype), 2).sum().item() == 3

    def test_edges(self):
        assert valid_from_lengths(torch.tensor([5]), 3).tolist() == [[True] * 3]
        assert valid_from_lengths(torch.tensor([1, 2]), 0).shape == (2, 0)
        assert valid_from_lengths(torch.tensor([], dtype=torch.int64), 3).shape == (0, 3)
        assert valid_from_lengths(torch.ones(2, dtype=torch.int64, device="meta"), 3).is_meta


class TestCollate:
    def test_by_hand(self):
        samples = [
            {
                "text": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
                "image": torch.tensor([7.0, 8.0, 9.0]),
            },
            {"audio": torch.tensor([[5.0], [6.0], [7.0]])},
            {"text": torch.tensor([[9.0, 9.0]]), "audio": torch.zeros(0, 1)},
        ]
        modalities, valid = collate_modalities(samples, DIMS)
        assert list(modalities) == list(valid) == ["audio", "image", "text"]
        assert modalities["text"].tolist() == [
            [[1.0, 2.0], [3.0, 4.0]],
            [[0.0, 0.0], [0.0, 0.0]],
            [[9.0, 9.0], [0.0, 0.0]],
        ]
        assert valid["text"].tolist() == [[True, True], [False, False], [True, False]]
        assert modalities["audio"].tolist() == [[[0.0]] * 3, [[5.0], [6.0], [7.0]], [[0.0]] * 3]
        assert valid["audio"].tolist() == [[False] * 3, [True] * 3, [False] * 3]
        assert modalities["image"].tolist() == [[[7.0, 8.0, 9.0]], [[0.0] * 3], [[0.0] * 3]]
        assert valid["image"].tolist() == [[True], [False], [False]]

    def test_a_modality_that_all_lack_is_one_missing_step(self):
        modalities, valid = collate_modalities([{"text": torch.ones(2, 2)}, {}], DIMS)
        assert modalities["audio"].tolist() == [[[0.0]], [[0.0]]]
        assert valid["audio"].tolist() == [[False], [False]]
        modalities, valid = collate_modalities([{}, {}], DIMS)
        assert {name: tuple(x.shape) for name, x in modalities.items()} == {
            "audio": (2, 1, 1),
            "image": (2, 1, 3),
            "text": (2, 1, 2),
        }
        assert not any(x.any() for x in valid.values())

    def test_aligned_modalities_share_their_steps(self):
        samples = [
            {"text": torch.ones(2, 2), "audio": torch.ones(2, 1)},
            {"audio": torch.ones(4, 1), "image": torch.ones(3)},
        ]
        modalities, valid = collate_modalities(samples, DIMS, aligned=("text", "audio"))
        assert modalities["text"].shape == (2, 4, 2)
        assert modalities["audio"].shape == (2, 4, 1)
        assert modalities["image"].shape == (2, 1, 3)
        assert valid["text"].sum(-1).tolist() == [2, 0]
        assert valid["audio"].sum(-1).tolist() == [2, 4]
        modalities, _ = collate_modalities(samples, DIMS)
        assert modalities["text"].shape == (2, 2, 2)
        modalities, _ = collate_modalities([{}], DIMS, aligned=("text", "audio"))
        assert modalities["text"].shape == (1, 1, 2)

    def test_dtypes_are_kept_per_modality_and_widened_where_samples_differ(self):
        half = torch.tensor([[0.1]], dtype=torch.float16)
        samples = [
            {"audio": half, "text": torch.ones(1, 2, dtype=torch.float64)},
            {"audio": torch.tensor([[0.1]])},
        ]
        modalities, _ = collate_modalities(samples, DIMS)
        assert modalities["audio"].dtype == torch.float32
        assert modalities["audio"][0].item() == half.item()
        assert modalities["text"].dtype == torch.float64
        modalities, _ = collate_modalities(samples[:1], DIMS)
        assert modalities["audio"].dtype == torch.float16

    def test_values_and_gradients_pass_unchanged(self):
        x = torch.tensor([[torch.nan, 1e30], [-0.0, 1e-45]], requires_grad=True)
        modalities, valid = collate_modalities([{"text": x}, {}], DIMS)
        assert torch.equal(modalities["text"][0].view(torch.int32), x.detach().view(torch.int32))
        assert valid["text"].any(-1).tolist() == [True, False]
        modalities["text"].sum().backward()
        assert x.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]

    def test_samples_are_not_changed(self):
        sample = {"image": torch.ones(3)}
        collate_modalities([sample, {"image": torch.ones(2, 3)}], DIMS)
        assert list(sample) == ["image"]
        assert sample["image"].shape == (3,)

    def test_order_of_names_does_not_matter(self):
        sample = {"text": torch.ones(1, 2), "audio": torch.ones(2, 1)}
        turned = dict(reversed(sample.items()))
        for dims in (DIMS, dict(reversed(DIMS.items()))):
            for given in (sample, turned):
                modalities, valid = collate_modalities([given], dims)
                assert list(modalities) == list(valid) == sorted(DIMS)

    def test_in_a_loader_and_a_model(self):
        g = torch.Generator().manual_seed(0)
        samples = [
            {
                name: torch.randn(1 + (i + j) % 4, dim, generator=g)
                for j, (name, dim) in enumerate(DIMS.items())
                if (i + j) % 3
            }
            for i in range(7)
        ]
        collate = partial(collate_modalities, modality_dims=DIMS)
        loader = DataLoader(samples, batch_size=3, collate_fn=collate, num_workers=0)
        fusion = CrossModalAttentionFusion(DIMS, model_dim=8, num_heads=2).eval()
        out = torch.cat([fusion(modalities, valid=valid) for modalities, valid in loader])
        assert out.shape == (7, 24)
        for i, sample in enumerate(samples):  # as each one alone
            alone = fusion({name: x.unsqueeze(0) for name, x in sample.items()})
            torch.testing.assert_close(out[i : i + 1], alone, atol=1e-5, rtol=1e-4)
