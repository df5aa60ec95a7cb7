"""What users see: names, signatures and docstrings. A change here is a line in CHANGELOG.md."""

import inspect
import re
from pathlib import Path

import pytest

import modimpute

SIGNATURES = {
    "ConsistencyLoss": "(metric='l2', *, reduction='mean')",
    "ConsistencyLoss.extra_repr": "(self)",
    "ConsistencyLoss.forward": "(self, reconstructed, target, *, valid=None)",
    "CrossModalAttentionFusion": (
        "(modality_dims, *, model_dim=64, num_heads=4, num_layers=2, feedforward_dim=None, "
        "dropout=0.1, attention_dropout=0.0, num_places=0, num_latents=0, pool='mean', "
        "aligned=False, device=None, dtype=None)"
    ),
    "CrossModalAttentionFusion.attend": "(self, modalities, *, valid=None)",
    "CrossModalAttentionFusion.attention_weights": "(self, modalities, *, valid=None)",
    "CrossModalAttentionFusion.extra_repr": "(self)",
    "CrossModalAttentionFusion.forward": "(self, modalities, *, valid=None)",
    "CrossModalAttentionFusion.output_dim": "property",
    "DonorMatching": (
        "(target_dim, *, source_dims=None, memory_size=2048, source_places=1, target_places=1, "
        "aligned=True, temperature=0.05, source_temperature=0.5, device=None, dtype=None)"
    ),
    "DonorMatching.extra_repr": "(self)",
    "DonorMatching.forward": (
        "(self, reconstruction, *, sources=None, valid=None, source_valid=None, share=1.0)"
    ),
    "DonorMatching.remember": (
        "(self, target, *, sources=None, valid=None, source_valid=None, standardize_target=True, "
        "seed=0)"
    ),
    "DonorMatching.reset_parameters": "(self)",
    "KernelTranslator": (
        "(source_dim, target_dim, *, key_dim=None, memory_size=2048, source_places=1, "
        "target_places=1, window=None, patch=0, aligned=True, steps=200, batch_size=512, "
        "learning_rate=0.1, noise=0.0, device=None, dtype=None)"
    ),
    "KernelTranslator.extra_repr": "(self)",
    "KernelTranslator.fit": (
        "(self, source, target, *, valid=None, target_valid=None, validation=None, "
        "standardize_target=True, seed=0)"
    ),
    "KernelTranslator.forward": (
        "(self, source, *, valid=None, target_length=None, target_valid=None)"
    ),
    "KernelTranslator.remember": (
        "(self, source, target, *, valid=None, target_valid=None, seed=0)"
    ),
    "KernelTranslator.reset_parameters": "(self)",
    "LinearTranslator": (
        "(source_dim, target_dim, *, source_places=1, target_places=1, window=None, patch=0, "
        "aligned=True, device=None, dtype=None)"
    ),
    "LinearTranslator.extra_repr": "(self)",
    "LinearTranslator.fit": (
        "(self, source, target, *, valid=None, target_valid=None, validation=None, "
        "standardize_target=True, seed=0)"
    ),
    "LinearTranslator.forward": (
        "(self, source, *, valid=None, target_length=None, target_valid=None)"
    ),
    "LinearTranslator.remember": (
        "(self, source, target, *, valid=None, target_valid=None, seed=0)"
    ),
    "LinearTranslator.reset_parameters": "(self)",
    "ModalityDropout": "(rate, *, level='sample')",
    "ModalityDropout.extra_repr": "(self)",
    "ModalityDropout.forward": "(self, modalities, *, valid=None, generator=None)",
    "ModalityImputer": (
        "(modality_dims, *, targets=None, model_dim=64, num_heads=4, num_layers=2, "
        "feedforward_dim=None, dropout=0.1, attention_dropout=0.0, num_places=0, aligned=False, "
        "num_slots=32, device=None, dtype=None)"
    ),
    "ModalityImputer.extra_repr": "(self)",
    "ModalityImputer.forward": (
        "(self, modalities, *, valid=None, target_valid=None, reconstruct=False, rows=None)"
    ),
    "ModalityNormalizer": "(modality_dims, *, eps=1e-07, device=None, dtype=None)",
    "ModalityNormalizer.extra_repr": "(self)",
    "ModalityNormalizer.fit": "(self, batches)",
    "ModalityNormalizer.forward": "(self, modalities, *, valid=None)",
    "ModalityNormalizer.inverse": "(self, modalities, *, valid=None)",
    "ModalityNormalizer.reset_parameters": "(self)",
    "ModalityNormalizer.update": "(self, modalities, *, valid=None)",
    "ModalityTranslator": (
        "(source_dim, target_dim, *, model_dim=64, num_heads=4, num_layers=2, "
        "feedforward_dim=None, dropout=0.1, attention_dropout=0.0, num_places=0, aligned=True, "
        "device=None, dtype=None)"
    ),
    "ModalityTranslator.extra_repr": "(self)",
    "ModalityTranslator.forward": (
        "(self, source, *, valid=None, target_length=None, target_valid=None)"
    ),
    "ModalityTranslator.reset_parameters": "(self)",
    "RetrievalTranslator": (
        "(source_dim, target_dim, *, key_dim=64, num_heads=4, hidden_dim=128, memory_size=2048, "
        "source_places=1, target_places=1, window=None, patch=0, aligned=True, steps=300, "
        "batch_size=256, learning_rate=0.001, noise=0.4, device=None, dtype=None)"
    ),
    "RetrievalTranslator.extra_repr": "(self)",
    "RetrievalTranslator.fit": (
        "(self, source, target, *, valid=None, target_valid=None, validation=None, "
        "standardize_target=True, seed=0)"
    ),
    "RetrievalTranslator.forward": (
        "(self, source, *, valid=None, target_length=None, target_valid=None, index=None)"
    ),
    "RetrievalTranslator.remember": (
        "(self, source, target, *, valid=None, target_valid=None, seed=0)"
    ),
    "RetrievalTranslator.reset_parameters": "(self)",
    "TranslatorEnsemble": (
        "(translators, target_dim, *, combination='transformer', model_dim=64, num_heads=4, "
        "num_layers=2, "
        "feedforward_dim=None, dropout=0.1, attention_dropout=0.0, num_places=0, donors=None, "
        "device=None, dtype=None)"
    ),
    "TranslatorEnsemble.combine": (
        "(self, translations, *, available=None, target_valid=None, sources=None, valid=None)"
    ),
    "TranslatorEnsemble.donors": "property",
    "TranslatorEnsemble.extra_repr": "(self)",
    "TranslatorEnsemble.fit_weights": (
        "(self, sources, target, *, valid=None, target_valid=None, guard=0.0, tolerance=0.0, "
        "standardize_target=True)"
    ),
    "TranslatorEnsemble.forward": (
        "(self, sources, *, valid=None, target_length=None, target_valid=None)"
    ),
    "TranslatorEnsemble.inflation": "property",
    "TranslatorEnsemble.translate": (
        "(self, sources, *, valid=None, target_length=None, target_valid=None)"
    ),
    "TranslatorEnsemble.variation": "property",
    "TranslatorEnsemble.weights": "property",
    "collate_modalities": "(samples, modality_dims, *, aligned=())",
    "consistency_loss": ("(reconstructed, target, *, valid=None, metric='l2', reduction='mean')"),
    "default_ensemble": (
        "(source_shapes, target_shape, num_samples, *, donors=None, memory_size=None, "
        "aligned=None, device=None, dtype=None)"
    ),
    "drop_at_rate": "(modalities, rate, *, valid=None, seed=None, index=None)",
    "drop_blocks": "(modalities, rate, *, block_length, valid=None, seed=None, index=None)",
    "drop_frames": "(modalities, rate, *, valid=None, seed=None, index=None)",
    "drop_pattern": "(modalities, missing, *, valid=None)",
    "evaluate_robustness": (
        "(predict, batches, metric, *, modalities=None, patterns=None, "
        "rates=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), seeds=(0, 1, 2), hide='zero', "
        "stochastic=False, out=None, name='', progress=False)"
    ),
    "fit_ensemble": (
        "(sources, target, *, valid=None, target_valid=None, validation=None, groups=None, "
        "translators=None, donors=None, memory_size=None, aligned=None, tolerance=None, "
        "standardize_target=True, seed=0, progress=False)"
    ),
    "missing_patterns": "(modalities)",
    "missing_rate": "(valid)",
    "plot_robustness": "(rows, *, kind='rate', metric=None, label=None, ax=None)",
    "run_by_length": (
        "(module, modalities, *, lengths, valid=None, target_lengths=None, num_buckets=4, "
        "**options)"
    ),
    "summarize_robustness": "(rows)",
    "valid_from_lengths": "(lengths, length)",
}
PACKAGE = Path(modimpute.__file__).parent


def public():
    """Returns every public name, with the methods that are not those of ``nn.Module``."""
    items = {}
    for name in modimpute.__all__:
        item = getattr(modimpute, name)
        items[name] = item
        if inspect.isclass(item):
            ours = [c for c in item.__mro__ if c.__module__.startswith("modimpute")]
            found = {key: value for c in reversed(ours) for key, value in vars(c).items()}
            own = {key: value for key, value in found.items() if not key.startswith("_")}
            items |= {f"{name}.{key}": value for key, value in own.items() if described(value)}
    return items


def described(item):
    return callable(item) or isinstance(item, property)


def bare(item):
    """Returns the signature without types."""
    if isinstance(item, property):
        return "property"
    parameters = inspect.signature(item).parameters.values()
    return str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters]))


def test_names_are_sorted_and_nothing_else_is_public():
    assert modimpute.__all__ == sorted(modimpute.__all__)
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    names = {name for name in vars(modimpute) if not name.startswith("_")} - modules
    assert names == set(modimpute.__all__)


def test_signatures():
    items = {name: bare(item) for name, item in public().items()}
    assert dict(sorted(items.items())) == SIGNATURES


@pytest.mark.parametrize("name", modimpute.__all__)
def test_docstring_has_its_sections(name):
    documentation = inspect.cleandoc(getattr(modimpute, name).__doc__)
    sections = re.findall(r"^(\w+):$", documentation, re.M)
    required = [section for section in sections if section not in {"Raises", "Returns"}]
    assert required == ["Args", "Shape", "References", "Example"]
    assert documentation.splitlines()[0].endswith(".")
    assert ">>> " in documentation.partition("Example:")[2]
    described = re.findall(r"^    (\w+): ", _section(documentation, "Args"), re.M)
    assert described == list(inspect.signature(getattr(modimpute, name)).parameters)


@pytest.mark.parametrize("name", [name for name, item in public().items() if "." in name])
def test_every_method_says_what_it_does(name):
    assert inspect.cleandoc(public()[name].__doc__).partition("\n")[0].endswith((".", ":"))


@pytest.mark.parametrize("name", modimpute.__all__)
def test_a_stranger_finds_it(name):
    item = getattr(modimpute, name)
    module = inspect.getmodule(item)
    file = module.__name__.partition(".")[2]
    assert name in module.__all__
    assert not file.startswith("_")
    if inspect.isclass(item):
        assert file in name.lower()


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 250


def _section(documentation, name):
    """Returns the text of one section."""
    return re.search(rf"^{name}:\n((?:    .*\n|\n)+)", documentation, re.M)[1]
