"""A cascade of residual autoencoders that imagines missing modalities, as in MMIN.

Zhao, Li and Jin, Missing Modality Imagination Network for Emotion Recognition with Uncertain
Missing Modalities, ACL 2021 (a summary): all modalities side by side, zeros where one is missing;
each autoencoder reads the input plus what those before it have added; and a second cascade
imagines the way back, from the imagined to the available ones. Here features are imagined, not
embeddings, and there is no classifier. Trained on all missing patterns.
"""

import itertools

import torch
from torch import Tensor, nn

from examples.benchmarks.imputation.parts import Part
from examples.benchmarks.imputation.training import mean_error, train

LAYERS = (256, 128, 64)
BLOCKS = 3
BACK = 0.2  # weight of the way back
STEPS = 2000


class Cascade(nn.Module):
    def __init__(self, size: int, flags: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for _ in range(BLOCKS):
            sizes = (size + flags, *LAYERS, *LAYERS[-2::-1])
            layers: list[nn.Module] = []
            for a, b in itertools.pairwise(sizes):
                layers += [nn.Linear(a, b), nn.GELU(), nn.Dropout(0.1)]
            self.blocks.append(nn.Sequential(*layers, nn.Linear(sizes[-1], size)))

    def forward(self, x: Tensor, flags: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(torch.cat([x, flags], 1))
        return x


class ResidualAutoencoder:
    """One model for all targets."""

    def __init__(self) -> None:
        self.model: nn.ModuleList | None = None

    def fit(self, train_part, validation, sources, targets, seed) -> None:  # noqa: ARG002
        self.targets = targets
        if self.model is not None:
            return
        torch.manual_seed(seed)
        self.shapes = {n: x.shape[1:] for n, x in sorted(train_part.modalities.items())}
        self.names = list(self.shapes)
        size = sum(shape.numel() for shape in self.shapes.values())
        self.model = nn.ModuleList(Cascade(size, len(self.names)) for _ in range(2))
        alone = [torch.tensor([n != gone for n in self.names]) for gone in self.names]

        def loss(model: nn.ModuleList, rows: Tensor) -> Tensor:
            batch = train_part.rows(rows.numpy())
            has = self._has(batch)
            kept = has & self._pattern(len(batch))
            imagined, back = self._imagine(model, batch, kept)
            errors = self._errors(imagined, batch, has & ~kept)
            return errors + BACK * self._errors(back, batch, kept)

        def error(model: nn.ModuleList) -> float:
            errors = [
                mean_error(
                    {
                        gone: self._imagine(model, validation, self._has(validation) & kept)[0][
                            gone
                        ]
                    },
                    validation,
                )
                for gone, kept in zip(self.names, alone, strict=True)
            ]
            return torch.stack(errors).mean().item()

        train(self.model, len(train_part), loss, error, steps=STEPS)

    @torch.no_grad()
    def predict(self, part: Part) -> dict[str, Tensor]:
        imagined, _ = self._imagine(self.model, part, self._has(part))
        return {name: imagined[name] for name in self.targets}

    def _has(self, part: Part) -> Tensor:
        """Which modalities each sample has, ``(N, M)``."""
        nothing = torch.zeros(len(part), dtype=torch.bool)
        has = [part.valid[n].any(-1) if n in part.valid else nothing for n in self.names]
        return torch.stack(has, 1)

    def _pattern(self, size: int) -> Tensor:
        """For each sample one of all patterns in which something is missing and something not."""
        patterns = [
            p
            for p in itertools.product((True, False), repeat=len(self.names))
            if 0 < sum(p) < len(p)
        ]
        return torch.tensor(patterns)[torch.randint(len(patterns), (size,))]

    def _imagine(
        self, model, part: Part, kept: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        parts = [
            part.modalities[name].flatten(1)
            if name in part.modalities
            else torch.zeros(len(part), shape.numel())
            for name, shape in self.shapes.items()
        ]
        x = torch.cat(parts, 1)
        sizes = [shape.numel() for shape in self.shapes.values()]
        wide = kept.repeat_interleave(torch.tensor(sizes), 1)
        imagined = model[0](torch.where(wide, x, 0.0), kept.to(x.dtype))
        back = model[1](torch.where(wide, 0.0, imagined), (~kept).to(x.dtype))
        return self._split(imagined, sizes), self._split(back, sizes)

    def _split(self, x: Tensor, sizes: list[int]) -> dict[str, Tensor]:
        parts = zip(self.shapes.items(), x.split(sizes, 1), strict=True)
        return {name: part.unflatten(1, shape) for (name, shape), part in parts}

    def _errors(self, said: dict[str, Tensor], part: Part, asked: Tensor) -> Tensor:
        """Where a modality is asked for, over its valid steps."""
        errors = []
        for i, name in enumerate(self.names):
            there = part.valid[name] & asked[:, i : i + 1]
            squares = (said[name] - part.modalities[name]).square().mean(-1)
            errors.append(torch.where(there, squares, 0.0).sum() / there.sum().clamp(min=1))
        return torch.stack(errors).mean()
