"""An outside peer: MVTCAE from the package ``multivae``, a product-of-experts autoencoder.

Hwang et al., Multi-View Representation Learning via Total Correlation Objective, NeurIPS 2021.
The model, its loss and its way to answer are the package's; the decoders end linearly, since
features are standardised, and the weights are those that impute best on validation.
"""

import torch
from torch import Tensor, nn

from examples.benchmarks.imputation.parts import Part
from examples.benchmarks.imputation.training import mean_error, train
from examples.benchmarks.imputation.windows import Inapplicable

LATENT = 32
STEPS = 2000
BETA = 0.5  # of the divergences: imputes better than the package's 2.5


class MultiVAE:
    """One model for all targets. A modality that a sample lacks is no expert."""

    def __init__(self) -> None:
        try:
            # Only here: the package is an extra, and needs a torchvision built for this torch.
            from multivae.data.datasets.base import IncompleteDataset, MultimodalBaseDataset
            from multivae.models import MVTCAE, MVTCAEConfig
            from pythae.models.nn.base_architectures import BaseDecoder
        except (ImportError, RuntimeError) as reason:
            raise Inapplicable(f"{type(reason).__name__}: {reason}") from reason
        self.incomplete, self.complete = IncompleteDataset, MultimodalBaseDataset
        self.parts = MVTCAE, MVTCAEConfig, BaseDecoder
        self.model: nn.Module | None = None

    def fit(self, train_part, validation, sources, targets, seed) -> None:
        self.sources, self.targets = sources, targets
        if self.model is not None:
            return
        torch.manual_seed(seed)
        self.shapes = {n: x.shape[1:] for n, x in sorted(train_part.modalities.items())}
        self.keys = {n: f"m{i}" for i, n in enumerate(self.shapes)}  # names may have dots
        self.model = self._build()

        def loss(model: nn.Module, rows: Tensor) -> Tensor:
            batch = train_part.rows(rows.numpy())
            masks = {self.keys[n]: batch.valid[n].any(-1) for n in self.shapes}
            return model(self.incomplete(self._data(batch), masks)).loss

        def error(model: nn.Module) -> float:
            errors = []
            for gone in self.shapes:
                others = [n for n in self.shapes if n != gone]
                errors.append(
                    mean_error(self._fill(model, validation, others, [gone]), validation)
                )
            return torch.stack(errors).mean().item()

        train(self.model, len(train_part), loss, error, steps=STEPS)

    def predict(self, part: Part) -> dict[str, Tensor]:
        return self._fill(self.model, part, self.sources, self.targets)

    def _build(self) -> nn.Module:
        MVTCAE, MVTCAEConfig, BaseDecoder = self.parts
        from pythae.models.base.base_utils import ModelOutput

        class Decoder(BaseDecoder):
            def __init__(self, size: int) -> None:
                super().__init__()
                self.net = nn.Sequential(nn.Linear(LATENT, 512), nn.ReLU(), nn.Linear(512, size))

            def forward(self, z: Tensor) -> ModelOutput:
                return ModelOutput(reconstruction=self.net(z))

        sizes = {self.keys[n]: shape.numel() for n, shape in self.shapes.items()}
        config = MVTCAEConfig(
            n_modalities=len(sizes),
            latent_dim=LATENT,
            beta=BETA,
            input_dims={n: (size,) for n, size in sizes.items()},
        )
        return MVTCAE(config, decoders={n: Decoder(size) for n, size in sizes.items()})

    def _data(self, part: Part) -> dict[str, Tensor]:
        return {self.keys[n]: x.flatten(1) for n, x in part.modalities.items()}

    @torch.no_grad()
    def _fill(self, model, part: Part, sources, targets) -> dict[str, Tensor]:
        """Samples that lack the same sources are answered together."""
        out = {n: torch.zeros(len(part), self.shapes[n].numel()) for n in targets}
        has = torch.stack([part.valid[n].any(-1) for n in sources], 1)
        for pattern in has.unique(dim=0):
            given = [self.keys[n] for n, there in zip(sources, pattern, strict=True) if there]
            if not given:
                continue
            rows = (has == pattern).all(1)
            data = {key: x[rows] for key, x in self._data(part).items()}
            z = model.encode(self.complete(data), given, return_mean=True)
            said = model.decode(z, [self.keys[n] for n in targets])
            for name in targets:
                out[name][rows] = said[self.keys[name]]
        return {name: x.unflatten(1, self.shapes[name]) for name, x in out.items()}
