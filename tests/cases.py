"""Small modules and batches: one case per layer and kind, for laws that hold for all of them."""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from modimpute import (
    ConsistencyLoss,
    CrossModalAttentionFusion,
    DonorMatching,
    KernelTranslator,
    LinearTranslator,
    ModalityImputer,
    ModalityTranslator,
    RetrievalTranslator,
    TranslatorEnsemble,
)

SIZES = {"model_dim": 8, "num_heads": 2, "num_layers": 2, "feedforward_dim": 8, "dropout": 0.0}
SIZES["num_places"] = 4  # fewer than steps
TARGET_DIM = 2


class GRUMember(nn.Module):
    """A user's member: it knows nothing of ``target_valid`` and counts from the first step."""

    def __init__(self, source_dim, target_dim, *, device=None, dtype=None):
        super().__init__()
        self.source_dim, self.target_dim = source_dim, target_dim
        self.gru = nn.GRU(source_dim, target_dim, batch_first=True, device=device, dtype=dtype)

    def forward(self, source, *, valid=None, target_length=None):  # noqa: ARG002
        return self.gru(source)[0]


class JointMember(nn.Module):
    """A user's member that reads several sources at once, step by step."""

    def __init__(self, modality_dims, target_dim, *, device=None, dtype=None):
        super().__init__()
        self.modalities = tuple(sorted(modality_dims))
        self.modality_dims, self.target_dim = dict(modality_dims), target_dim
        self.projections = nn.ModuleList(
            nn.Linear(self.modality_dims[name], target_dim, device=device, dtype=dtype)
            for name in self.modalities
        )

    def forward(self, source, *, valid=None, target_length=None):  # noqa: ARG002
        like = next(iter(source.values()))
        total = 0.0
        for name, projection in zip(self.modalities, self.projections, strict=True):
            x = source.get(name)
            if x is None:  # all parameters take part
                x = like.new_zeros((*like.shape[:2], self.modality_dims[name]))
            total = total + projection(x).tanh()
        return total


@dataclass(frozen=True)
class Batch:
    """The arguments of one call, by name; ``x``, ``valid`` and ``target_valid`` go together."""

    x: dict[str, Tensor]
    valid: dict[str, Tensor] | None
    target_length: int | None = None
    target_valid: Tensor | None = None

    @property
    def size(self):
        return next(iter(self.x.values())).shape[0]

    def put(self, value):
        """Puts a value at every step that is not valid."""
        valid = self.valid or {}
        x = {n: t.masked_fill(~valid[n].unsqueeze(-1), value) if n in valid else t.clone()
             for n, t in self.x.items()}  # fmt: skip
        return replace(self, x=x)

    def pick(self, rows):
        """Returns some samples of the batch."""
        return replace(
            self,
            x={name: t[rows] for name, t in self.x.items()},
            valid=None if self.valid is None else {n: v[rows] for n, v in self.valid.items()},
            target_valid=None if self.target_valid is None else self.target_valid[rows],
        )

    def without(self, *names):
        """Leaves modalities out, by key."""
        valid = self.valid
        if valid is not None:
            valid = {n: v for n, v in valid.items() if n not in names}
        return replace(self, x={n: t for n, t in self.x.items() if n not in names}, valid=valid)

    def missing(self, *names):
        """Marks modalities as missing, by row."""
        valid = {name: torch.zeros_like(self.x[name][..., 0], dtype=torch.bool) for name in names}
        return replace(self, valid={**(self.valid or {}), **valid})

    def reversed(self):
        """Returns the same batch with the names in the opposite order."""
        valid = None if self.valid is None else dict(reversed(self.valid.items()))
        return replace(self, x=dict(reversed(self.x.items())), valid=valid)


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """How to build a module, and how to call it with a :class:`Batch`."""

    name: str
    make: Callable[..., nn.Module]
    dims: Mapping[str, int]
    # The names of one group have one length; "target" is the group of the output's steps.
    groups: Mapping[str, str]
    takes_target: bool = False
    aligned: bool = True  # the output's steps are those of the inputs
    min_length: int = 0
    # A member of the user's may count from the first step: then padding at the left is no law.
    left_padding: bool = True
    keys: tuple[str, ...] = ()  # of the state_dict, which is on disk

    def build(self, **options):
        """Returns a module in which no parameter is zero, as some are at first."""
        torch.manual_seed(0)
        return randomize(self.make(**options))

    def batch(self, size=3, length=5, *, seed=0, rate=0.6, dtype=None, target=None):
        """Returns a random batch.

        ``length`` is one for all groups or a mapping; ``rate`` is the share of valid steps;
        ``target`` is None, "length" or "valid": how the output's steps are told.
        """
        lengths = length if isinstance(length, Mapping) else dict.fromkeys(self.all_groups, length)
        g = torch.Generator().manual_seed(seed)
        x, valid = {}, {}
        for name, dim in self.dims.items():
            shape = (size, lengths[self.groups[name]])
            x[name] = torch.randn(*shape, dim, generator=g, dtype=dtype)
            valid[name] = torch.rand(shape, generator=g) < rate
        if self.is_loss:  # one ``valid`` for both
            valid = dict.fromkeys(valid, valid["target"])
        if self.takes_target and not self.aligned:
            target = target or "length"
        options = {}
        if self.takes_target and target == "length":
            options["target_length"] = lengths["target"]
        if self.takes_target and target == "valid":
            options["target_valid"] = torch.rand((size, lengths["target"]), generator=g) < 0.7
        return Batch(x, valid, **options)

    @property
    def all_groups(self):
        """Every group of lengths, the target's too."""
        return sorted({*self.groups.values(), *(["target"] if self.takes_target else [])})

    @property
    def is_loss(self):
        """Whether the module takes two tensors that share ``valid``."""
        return "reconstructed" in self.dims

    @property
    def answers_steps(self):
        """Whether the output has steps."""
        return self.takes_target or self.name.startswith("donors") or self.name.endswith("none")

    @property
    def learns(self):
        """Whether it has parameters."""
        return any(True for _ in built(self).parameters())

    @property
    def takes_mapping(self):
        """Whether the module takes modalities by name."""
        return "source" not in self.dims and not self.is_loss

    def told(self, batch):
        """Returns the batch with ``valid`` and, where it is an argument, ``target_valid`` given.

        They are the documented defaults, so that nothing may change.
        """
        valid = {n: torch.ones(t.shape[:2], dtype=torch.bool) for n, t in batch.x.items()}
        valid |= batch.valid or {}
        exists = batch.target_valid
        if self.takes_target and exists is None and not self.aligned:
            exists = torch.ones((batch.size, batch.target_length), dtype=torch.bool)
        elif self.takes_target and exists is None:
            exists = functools.reduce(torch.logical_or, valid.values())
            if self.takes_mapping:  # an ensemble answers at all steps where it knows nothing
                exists = exists | ~exists.any(-1, keepdim=True)
        return replace(batch, valid=valid, target_valid=exists, target_length=None)

    def pad(self, batch, before, after, value=torch.nan):
        """Puts steps that are not valid before and after, as many as each group is to get."""

        def longer(t, group, fill):
            shape = (t.shape[0], before[group] + t.shape[1] + after[group], *t.shape[2:])
            padded = t.new_full(shape, fill)
            padded[:, before[group] : before[group] + t.shape[1]] = t
            return padded

        batch = self.told(batch)
        exists = batch.target_valid
        return replace(
            batch,
            x={n: longer(t, self.groups[n], value) for n, t in batch.x.items()},
            valid={n: longer(v, self.groups[n], False) for n, v in batch.valid.items()},
            target_valid=None if exists is None else longer(exists, "target", False),
        )

    def arguments(self, batch):
        """Returns the positional and the keyword arguments of ``forward``."""
        options = {}
        if self.takes_target:
            options["target_length"] = batch.target_length
            options["target_valid"] = batch.target_valid
            options = {name: value for name, value in options.items() if value is not None}
        if self.takes_mapping:
            return (batch.x,), {"valid": batch.valid, **options}
        valid = None if batch.valid is None else next(iter(batch.valid.values()))
        return tuple(batch.x[name] for name in self.dims), {"valid": valid, **options}

    def call(self, module, batch):
        """Calls the module; what it returns by name comes as one tensor."""
        args, kwargs = self.arguments(batch)
        return flat(module(*args, **kwargs))

    def __repr__(self):
        return self.name

    def _repr_pretty_(self, printer, cycle):  # noqa: ARG002, of Hypothesis
        printer.text(self.name)


@dataclass(frozen=True, eq=False, repr=False)
class FittedCase(Case):
    """A module that remembers examples: built, it is fitted to random ones."""

    def build(self, **options):
        torch.manual_seed(0)
        module = self.make(**options)
        if not any(x.is_meta for x in module.buffers()):
            g = torch.Generator().manual_seed(1)
            for member in module.modules():
                if hasattr(member, "remember"):
                    self.remember(member, g)
        module = randomize(module)
        for name, buffer in module.named_buffers():
            g = torch.Generator().manual_seed(2)
            if name.endswith("weighing.weight"):  # of the members, for each subset
                buffer.copy_(torch.rand(buffer.shape, generator=g))
                buffer.div_(buffer.sum(-1, keepdim=True) + 0.5)
            elif name.endswith("donors_share"):
                buffer.copy_(torch.rand(buffer.shape, generator=g))
        return module

    def remember(self, member, generator):
        """Fits to examples that lack some modalities, of lengths that are not those of tests."""
        if isinstance(member, DonorMatching):
            target = torch.randn(12, 4, TARGET_DIM, generator=generator).to(member.memory)
            options = {"valid": torch.rand((12, 4), generator=generator) < 0.9}
            if member.source_dims:
                x = {n: torch.randn(12, 4, d, generator=generator) for n, d in
                     member.source_dims.items()}  # fmt: skip
                some = {n: torch.rand((12, 4), generator=generator) < 0.8 for n in x}
                for number, name in enumerate(x):
                    some[name][number] = False
                options |= {"sources": x, "source_valid": some}
            member.remember(target, **options)
            return
        dims = member.source_dim if member.joint else {"source": member.source_dim}
        like = member.examples.target.mean
        shape, options = (12, 4), {"generator": generator}
        x = {n: torch.randn(*shape, d, **options).to(like) for n, d in dims.items()}
        valid = {n: torch.rand(shape, **options) < 0.8 for n in dims}
        for number, name in enumerate(dims):
            valid[name][number] = False
        target = sum(t[..., :1] for t in x.values()) + torch.arange(TARGET_DIM).to(like)
        there = torch.rand(shape, **options) < 0.9
        if not member.joint:
            x, valid = x["source"], valid["source"]
        member.fit(x, target, valid=valid, target_valid=there)


def randomize(module, seed=0):
    """Adds noise to every parameter: a learned vector that is zero hides what is done with it."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.is_meta:
                noise = torch.randn(parameter.shape, generator=g, dtype=torch.float64)
                parameter.add_(0.3 * noise.to(parameter.dtype))
    return module


@functools.cache
def built(case, dtype=torch.float64, **options):
    """Returns the one module of a case, built once; no test changes more than its mode.

    Its parameters are the same numbers in every dtype.
    """
    return copy.deepcopy(_once(case, **options)).to(dtype)


@functools.cache
def _once(case, **options):
    """Returns the module that all dtypes are copies of: two fits may differ in rounding."""
    return case.build(**options)


def flat(output):
    """Returns one tensor, ``(B, *)``, of what is returned by name."""
    if isinstance(output, torch.Tensor):
        return output
    return torch.cat([output[name].flatten(1) for name in sorted(output)], -1)


def weighted(output):
    """Returns a scalar in which every element of the output counts differently."""
    output = flat(output)
    weights = torch.arange(1, output.numel() + 1, dtype=output.dtype).cos().view(output.shape)
    return (output * weights).sum()


def translator(source_dim, *, target_dim=TARGET_DIM, **options):
    return ModalityTranslator(source_dim, target_dim, **{**SIZES, **options})


def ensemble(kinds, *, device=None, dtype=None, **sizes):
    """Returns an ensemble whose members are of the given kinds."""
    place = {"device": device, "dtype": dtype}
    transformer = functools.partial(translator, **sizes)
    makers = {
        "aligned": transformer,
        "unaligned": functools.partial(transformer, aligned=False),
        "wide": functools.partial(transformer, target_dim=5),
        "gru": functools.partial(GRUMember, target_dim=3),
    }
    members = {
        name: JointMember({n: DIMS[n] for n in ("audio", "text")}, 3, **place)
        if kind == "joint"
        else makers[kind](DIMS[name], **place)
        for name, kind in kinds.items()
    }
    return TranslatorEnsemble(members, TARGET_DIM, **{**SIZES, **sizes, **place})


def fusion(**options):
    return CrossModalAttentionFusion(DIMS, **{**SIZES, **options})


def imputer(dims=None, **options):
    return ModalityImputer(dims or DIMS, **{**SIZES, "num_slots": 3, **options})


def memory(kind, joint, *, device=None, dtype=None, target_dim=TARGET_DIM, aligned=True, **view):
    """Returns a member that remembers; what sizes a transformer means nothing to it."""
    dims = {"text": DIMS["text"], "audio": DIMS["audio"]} if joint else 3
    options = {
        "linear": {},
        "kernel": {"memory_size": 9},  # fewer than there are examples
        "projected": {"key_dim": 5, "noise": 0.3, "memory_size": 64},
        "retrieval": {"key_dim": 5, "num_heads": 2, "hidden_dim": 6, "memory_size": 64},
    }[kind]
    if kind != "linear":
        options |= {"steps": 2, "batch_size": 8}
    view = {key: value for key, value in view.items() if key in VIEW}
    makers = {"linear": LinearTranslator, "retrieval": RetrievalTranslator}
    make = makers.get(kind, KernelTranslator)
    return make(dims, target_dim, aligned=aligned, device=device, dtype=dtype, **options, **view)


def donors(
    *,
    device=None,
    dtype=None,
    aligned=True,
    target_places=1,
    source_dims=None,
    source_places=1,
    **sizes,  # noqa: ARG001
):
    """Returns donors that are fewer than there are samples, and that are soft."""
    view = {"aligned": aligned, "target_places": target_places}
    view |= {"source_dims": source_dims, "source_places": source_places}
    options = {"memory_size": 9, "temperature": 0.5, "device": device, "dtype": dtype}
    return DonorMatching(TARGET_DIM, **view, **options)


def weighted_ensemble(*, device=None, dtype=None, **sizes):
    """Returns an ensemble that adds up what single and joint members say, a network too."""
    place = {"device": device, "dtype": dtype}
    members = {
        "pair": memory("projected", True, window=1, patch=1, **place),
        "audio": translator(DIMS["audio"], **sizes, **place),
    }
    compared = {name: DIMS[name] for name in ("audio", "text")}
    matching = donors(target_places=4, source_dims=compared, source_places=3, **place)
    options = {**SIZES, **sizes, **place, "donors": matching}
    return TranslatorEnsemble(members, TARGET_DIM, combination="weights", **options)


def loss(metric, reduction, **options):  # noqa: ARG001
    return ConsistencyLoss(metric, reduction=reduction)


def _transformer(prefix, layers=2):
    """The state_dict keys of a stack of blocks, in their order."""
    blocks = [key for i in range(layers) for key in _block(f"{prefix}blocks.{i}.")]
    return (*blocks, f"{prefix}norm.weight", f"{prefix}norm.bias")


def _block(prefix):
    parts = ("attention_norm", "attention.input", "attention.output", "feedforward_norm")
    parts += ("feedforward_in", "feedforward_out")
    return tuple(f"{prefix}{part}.{kind}" for part in parts for kind in WEIGHT_BIAS)


def _translator(prefix="", *, aligned=True):
    keys = (f"{prefix}gap", f"{prefix}input.weight", f"{prefix}input.bias")
    keys += (f"{prefix}places.weight", *_transformer(f"{prefix}encoder."))
    if not aligned:
        keys += (f"{prefix}query.weight", f"{prefix}query.bias")
        keys += _transformer(f"{prefix}decoder.")
    return (*keys, f"{prefix}output.weight", f"{prefix}output.bias")


def _ensemble(*members, names):
    keys = tuple(key for member in members for key in member)
    kinds = ("weight", "bias", "missing")
    keys += tuple(f"inputs.@{name}.{kind}" for name in names for kind in kinds)
    keys += ("places.weight", *_transformer("transformer."))
    return (*keys, "output.weight", "output.bias")


def _gru(prefix):
    kinds = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return tuple(f"{prefix}gru.{kind}" for kind in kinds)


def _joint(prefix):
    return tuple(f"{prefix}projections.{i}.{kind}" for i in range(2) for kind in WEIGHT_BIAS)


def _fusion(pool, num_latents=0):
    keys = ()
    for name in ("audio", "text", "vision"):
        prefix = f"towers.@{name}."
        keys += (f"{prefix}missing", *([f"{prefix}query"] if pool == "attention" else []))
        keys += (f"{prefix}input.weight", f"{prefix}input.bias", f"{prefix}places.weight")
        keys += _transformer(prefix)
    if num_latents:
        keys += ("latents.vectors", *_block("latents.blocks.0."), *_block("latents.blocks.1."))
    return keys


def _imputer(targets, *, aligned):
    keys = ()
    for name in ("audio", "text", "vision"):
        prefix = f"encoders.@{name}."
        keys += tuple(f"{prefix}{part}" for part in ("gap", "missing", "input.weight"))
        keys += (f"{prefix}input.bias", f"{prefix}places.weight")
        keys += _transformer(f"{prefix}transformer.")
    for name in targets:
        prefix = f"decoders.@{name}."
        keys += (f"{prefix}unknown", f"{prefix}places.weight")
        keys += () if aligned else (f"{prefix}clock.weight",)
        keys += _block(f"{prefix}block.")
        keys += tuple(f"{prefix}{x}.{kind}" for x in ("norm", "output") for kind in WEIGHT_BIAS)
    keys += () if aligned else ("hub.slots",)
    keys += ("hub.norm.weight", "hub.norm.bias")
    return keys if aligned else (*keys, *_block("hub.block."))


def _examples(prefix, names, clocked):
    kinds = ("count", "mean", "residue", "deviation")
    wholes = [*(f"sources.@{name}" for name in names), "target"]
    wholes += [f"lengths.@{name}" for name in names] if clocked else []
    return tuple(f"{prefix}examples.{whole}.{kind}" for whole in wholes for kind in kinds)


def _donors(prefix="", compared=()):
    own = tuple(f"{prefix}{key}" for key in ("memory", "available", "tau"))
    keys = (*own, *_examples(prefix, (), False))
    if not compared:
        return keys
    prefix += "source_memory."
    own = tuple(f"{prefix}{key}" for key in ("memory", "available", "tau"))
    return (*keys, *own, *_examples(prefix, compared, False))


def _memory(kind, names, prefix="", clocked=False):
    own = {
        "linear": ("weight", "offset", "penalty"),
        "retrieval": ("metric", "sharpness", "share", "memory", "values", "value_valid"),
    }.get(kind, ("memory", "coefficients", "slope", "offset", "typical", "spread"))
    if kind == "retrieval":
        own += ("available", "owner")
    keys = (*(f"{prefix}{key}" for key in own), *_examples(prefix, names, clocked))
    if kind in ("kernel", "projected"):
        mixture = ("scale", "amplitude", "noise", *["projection"] * (kind == "projected"))
        keys += tuple(f"{prefix}mixture.{key}" for key in mixture)
    if kind != "retrieval":
        return keys
    layers = [f"keys.{x}.{what}" for x in ("hidden", "norm", "bend") for what in WEIGHT_BIAS]
    return (*keys, f"{prefix}keys.straight.weight", *(f"{prefix}{x}" for x in layers),
            f"{prefix}correction.weight")  # fmt: skip


VIEW = ("source_places", "target_places", "window", "patch")
WEIGHT_BIAS = ("weight", "bias")
DIMS = {"text": 4, "audio": 3, "vision": 2}  # not in the order of the names
_PAIR = {"text": DIMS["text"], "audio": DIMS["audio"]}
_A, _T = "translators.@audio.", "translators.@text."

TRANSLATORS = [
    Case(
        "translator-aligned",
        functools.partial(translator, 3),
        {"source": 3},
        {"source": "target"},
        takes_target=True,
        keys=_translator(),
    ),
    Case(
        "translator-unaligned",
        functools.partial(translator, 3, aligned=False),
        {"source": 3},
        {"source": "source"},
        takes_target=True,
        aligned=False,
        keys=_translator(aligned=False),
    ),
]
ENSEMBLES = [
    Case(
        "ensemble-aligned",
        functools.partial(ensemble, {"text": "wide", "audio": "aligned"}),
        _PAIR,
        {"text": "target", "audio": "target"},
        takes_target=True,
        keys=_ensemble(_translator(_A), _translator(_T), names=("audio", "text")),
    ),
    Case(
        "ensemble-unaligned",
        functools.partial(ensemble, {"text": "unaligned", "audio": "unaligned"}),
        _PAIR,
        {"text": "text", "audio": "audio"},
        takes_target=True,
        aligned=False,
        keys=_ensemble(
            _translator(_A, aligned=False),
            _translator(_T, aligned=False),
            names=("audio", "text"),
        ),
    ),
    Case(
        "ensemble-mixed",
        functools.partial(ensemble, {"text": "unaligned", "audio": "aligned"}),
        _PAIR,
        {"text": "text", "audio": "target"},
        takes_target=True,
        aligned=False,
        keys=_ensemble(_translator(_A), _translator(_T, aligned=False), names=("audio", "text")),
    ),
    Case(
        "ensemble-gru",
        functools.partial(ensemble, {"text": "aligned", "audio": "gru"}),
        _PAIR,
        {"text": "target", "audio": "target"},
        takes_target=True,
        min_length=1,
        left_padding=False,
        keys=_ensemble(_gru(_A), _translator(_T), names=("audio", "text")),
    ),
    Case(
        "ensemble-joint",
        functools.partial(ensemble, {"pair": "joint", "vision": "aligned"}),
        DIMS,
        dict.fromkeys(DIMS, "target"),
        takes_target=True,
        keys=_ensemble(
            _joint("translators.@pair."),
            _translator("translators.@vision."),
            names=("pair", "vision"),
        ),
    ),
]
FUSIONS = [
    Case(
        f"fusion-{pool}-{'aligned' if aligned else 'unaligned'}",
        functools.partial(fusion, pool=pool, aligned=aligned),
        DIMS,
        dict.fromkeys(DIMS, "steps") if aligned else {name: name for name in DIMS},
        aligned=aligned,
        keys=_fusion(pool),
    )
    for pool in ("mean", "last", "attention")
    for aligned in (False, True)
]
FUSIONS += [
    Case(
        f"fusion-latents-{'aligned' if aligned else 'unaligned'}",
        functools.partial(fusion, num_latents=3, aligned=aligned),
        DIMS,
        dict.fromkeys(DIMS, "steps") if aligned else {name: name for name in DIMS},
        aligned=aligned,
        keys=_fusion("mean", num_latents=3),
    )
    for aligned in (False, True)
]
LOSSES = [
    Case(
        f"loss-{metric}-{reduction}",
        functools.partial(loss, metric, reduction),
        {"reconstructed": 3, "target": 3},
        {"reconstructed": "target", "target": "target"},
    )
    for metric in ("l2", "l1", "smooth_l1", "cosine")
    for reduction in ("mean", "sum", "none")
]
# Not in CASES: what an imputer returns has the steps and the dtype of what it is given.
IMPUTERS = [
    Case(
        "imputer-unaligned",
        imputer,
        DIMS,
        {name: name for name in DIMS},
        aligned=False,
        keys=_imputer(("audio", "text", "vision"), aligned=False),
    ),
    Case(
        "imputer-aligned",
        functools.partial(imputer, targets=("vision", "audio"), aligned=True),
        DIMS,
        dict.fromkeys(DIMS, "steps"),
        keys=_imputer(("audio", "vision"), aligned=True),
    ),
]
LAYERS = [*TRANSLATORS, *ENSEMBLES, *FUSIONS]
CASES = [*LAYERS, *LOSSES]
# Not in LAYERS: they have buffers, and nothing that drops out or is zero at first.
MEMORIES = [
    FittedCase(
        f"{kind}-{'joint' if joint else 'single'}-{'aligned' if aligned else 'unaligned'}-{name}",
        functools.partial(memory, kind, joint, aligned=aligned, **view),
        _PAIR if joint else {"source": 3},
        {name: "target" if aligned else name for name in (_PAIR if joint else {"source": 3})},
        takes_target=True,
        aligned=aligned,
        keys=_memory(
            kind,
            ("audio", "text") if joint else ("source",),
            clocked=not aligned and name == "places",
        ),
    )
    for kind, joint, aligned, name, view in [
        ("linear", True, True, "places", {"source_places": 5, "target_places": 4}),
        ("linear", False, False, "window", {"window": 2, "patch": 1}),
        ("kernel", True, False, "places", {"source_places": 3, "target_places": 5}),
        ("kernel", False, True, "window", {"window": 1, "patch": 1}),
        ("projected", True, True, "places", {"source_places": 5, "target_places": 4}),
        ("retrieval", True, True, "window", {"window": 1, "patch": 1}),
        ("retrieval", True, False, "places", {"source_places": 4, "target_places": 4}),
        ("retrieval", False, True, "places", {"source_places": 3, "target_places": 4}),
    ]
]
WEIGHTED = [
    FittedCase(
        "ensemble-weights",
        weighted_ensemble,
        _PAIR,
        dict.fromkeys(_PAIR, "target"),
        takes_target=True,
        keys=(
            *_translator(_A),
            *_memory("projected", ("audio", "text"), "translators.@pair."),
            "weighing.weight",
            "weighing.mean",
            "weighing.donors_share",
            *_donors("weighing.donors.", ("audio", "text")),
        ),
    )
]
DONORS = [
    FittedCase(
        f"donors-{'aligned' if aligned else 'unaligned'}",
        functools.partial(donors, aligned=aligned, target_places=4),
        {"source": TARGET_DIM},
        {"source": "target"},
        keys=_donors(),
    )
    for aligned in (True, False)
]
FITTED = [*MEMORIES, *WEIGHTED, *DONORS]
