"""Every bad input: TypeError or ValueError, "rule, however: fact", before anything is computed.

``…`` in an expected message stands for anything.
"""

import re

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from modimpute import (
    ConsistencyLoss,
    CrossModalAttentionFusion,
    ModalityTranslator,
    TranslatorEnsemble,
    collate_modalities,
    consistency_loss,
    valid_from_lengths,
)


class Uncomputed(TorchDispatchMode):
    """Refuses every operation on a tensor."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} ran before the error")


class Spy(nn.Module):
    """A member that must not be reached."""

    def forward(self, source, *, valid=None, target_length=None):
        raise AssertionError(f"the member ran: {source.shape}, {valid}, {target_length}")


class JointSpy(Spy):
    modalities = ("a", "b")


class SizedSpy(Spy):
    source_dim = 7


class Lacking(nn.Module):
    def forward(self, source, valid=None):
        return source if valid is None else None


class Answers(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, source, *, valid=None, target_length=None):
        del source, valid, target_length
        return self.answer


class WideSpy(Spy):
    target_dim = 0


class UnalignedSpy(Spy):
    aligned = False


SIZES = {"model_dim": 8, "num_heads": 2, "num_layers": 1}
TRANSLATOR = ModalityTranslator(3, 2, **SIZES)
UNALIGNED = ModalityTranslator(3, 2, **SIZES, aligned=False)
ENSEMBLE = TranslatorEnsemble({"a": Spy(), "b": Spy()}, 2, **SIZES)
SIZED = TranslatorEnsemble({"a": SizedSpy(), "b": Spy()}, 2, **SIZES)
LOOSE = TranslatorEnsemble({"a": UnalignedSpy(), "b": Spy()}, 2, **SIZES)
FUSION = CrossModalAttentionFusion({"a": 3, "b": 4}, **SIZES)
ALIGNED = CrossModalAttentionFusion({"a": 3, "b": 4}, **SIZES, aligned=True)

X, Y = torch.zeros(2, 5, 3), torch.zeros(2, 5, 4)
VALID = torch.ones(2, 5, dtype=torch.bool)
META, META_VALID = X.to("meta"), VALID.to("meta")
INTEGERS, COMPLEX, VECTORS, FLAT = X.long(), X.to(torch.complex64), X[:, 0], X[0, 0]
RANK_4, WIDE, SHORT, ONE = X.unsqueeze(1), torch.zeros(2, 5, 7), X[:, :4], X[:1]
FLOATS, SHORT_VALID, ONE_VALID = VALID.float(), VALID[:, :4], VALID[:1]
SCALAR_VALID, STEP_VALID = VALID[0, 0], VALID.unsqueeze(-1)
LENGTHS, FLOAT_LENGTHS, BOOL_LENGTHS = torch.ones(2).long(), torch.ones(2), VALID[:, 0]
LENGTHS_2D = LENGTHS.unsqueeze(0)
AB = {"a": X, "b": Y}


def call(function, /, *args, **kwargs):
    return lambda: function(*args, **kwargs)


def translator_cases():
    for kind, module, more in [
        ("aligned", TRANSLATOR, {}),
        ("unaligned", UNALIGNED, {"target_length": 4}),
    ]:
        own = "(B, L, 3)"
        vector = f"source must have shape {own}, for one vector per sample (B, 1, D): call "
        for case, args, error, message in [
            (
                "features",
                {"source": WIDE},
                ValueError,
                "source must have 3 features (source_dim) in its last dimension, however: "
                "source.shape=(2, 5, 7)",
            ),
            ("rank 4", {"source": RANK_4}, ValueError, f"source must have shape {own}, however: "
             "source.shape=(2, 1, 5, 3)"),
            ("rank 1", {"source": FLAT}, ValueError, f"source must have shape {own}, however: "
             "source.shape=(3,)"),
            ("vector", {"source": VECTORS}, ValueError, f"{vector}unsqueeze(1), however: "
             "source.shape=(2, 3)"),
            ("integers", {"source": INTEGERS}, TypeError, "source must be floating (embed tokens "
             "first), however: source.dtype=torch.int64"),
            ("complex", {"source": COMPLEX}, TypeError, "source must be floating …, however: "
             "source.dtype=torch.complex64"),
            ("None", {"source": None}, TypeError, "source must be a Tensor …, however: "
             "source=None"),
            ("list", {"source": [1.0]}, TypeError, "source must be a Tensor, however: "
             "type(source)=list"),
            ("device", {"source": META}, ValueError, "source must be on cpu, however: "
             "source.device=meta"),
            ("valid shape", {"valid": SHORT_VALID}, ValueError, "valid must have shape (2, 5), "
             "however: valid.shape=(2, 4)"),
            ("valid batch", {"valid": ONE_VALID}, ValueError, "valid must have shape (2, 5), "
             "however: valid.shape=(1, 5)"),
            ("valid rank", {"valid": STEP_VALID}, ValueError, "valid must have shape (2, 5), "
             "however: valid.shape=(2, 5, 1)"),
            ("valid dtype", {"valid": FLOATS}, TypeError, "valid must be bool, however: "
             "valid.dtype=torch.float32"),
            ("valid device", {"valid": META_VALID}, ValueError, "valid must be on cpu, however: "
             "valid.device=meta"),
            ("valid list", {"valid": [True]}, TypeError, "valid must be a Tensor, however: "
             "type(valid)=list"),
            ("valid mapping", {"valid": {"a": VALID}}, TypeError, "valid must be a Tensor, "
             "however: type(valid)=dict"),
            ("target_valid shape", {"target_valid": STEP_VALID}, ValueError, "target_valid must "
             "have shape (2, …), however: target_valid.shape=(2, 5, 1)"),
            ("target_valid dtype", {"target_valid": FLOATS, "target_length": 5}, TypeError,
             "target_valid must be bool, however: target_valid.dtype=torch.float32"),
            ("target_valid device", {"target_valid": META_VALID, "target_length": 5}, ValueError,
             "target_valid must be on cpu, however: target_valid.device=meta"),
            ("target_valid list", {"target_valid": [True], "target_length": None}, TypeError,
             "target_valid must be a Tensor, however: type(target_valid)=list"),
            ("target_valid scalar", {"target_valid": SCALAR_VALID, "target_length": None},
             ValueError, "target_valid must have …, however: …"),
            ("target_length float", {"target_length": 5.0}, TypeError, "target_length must be an "
             "int, however: …float"),
            ("target_length bool", {"target_length": True}, TypeError, "target_length must be an "
             "int, however: …bool"),
            ("target_length -1", {"target_length": -1}, ValueError, "target_length must not be "
             "negative, however: …-1"),
        ]:  # fmt: skip
            arguments = {"source": X, **more, **args}
            yield f"{kind} translator, {case}", call(module, **arguments), error, message
    yield (
        "unaligned translator without target_length",
        call(UNALIGNED, X),
        ValueError,
        "target_length or target_valid must be given (aligned=False), however: both are None",
    )
    yield (
        "unaligned translator, target_valid and target_length disagree",
        call(UNALIGNED, X, target_length=4, target_valid=VALID),
        ValueError,
        "target_valid must have shape (2, 4), however: target_valid.shape=(2, 5)",
    )
    yield (
        "aligned translator, another target_length",
        call(TRANSLATOR, X, target_length=4),
        ValueError,
        "target_length must be the length of the source (aligned=True), however: 4, …5",
    )
    yield (
        "aligned translator, target_valid of another length",
        call(TRANSLATOR, X, target_valid=SHORT_VALID),
        ValueError,
        "target_valid must have shape (2, 5), however: target_valid.shape=(2, 4)",
    )


def mapping_cases():
    """What the layers that take a mapping refuse alike."""
    for kind, function, argument in [
        ("ensemble", ENSEMBLE, "sources"),
        ("translate", ENSEMBLE.translate, "sources"),
        ("combine", ENSEMBLE.combine, "translations"),
        ("fusion", FUSION, "modalities"),
        ("attend", FUSION.attend, "modalities"),
        ("attention_weights", FUSION.attention_weights, "modalities"),
    ]:
        valid = "available" if kind == "combine" else "valid"
        x = f"{argument}['a']"
        vector = f"{x} must have shape (B, L, …), for one vector per sample (B, 1, D): call "
        good = {"a": X[..., :2], "b": X[..., :2]} if argument != "modalities" else AB
        vectors = VECTORS[:, :2] if argument != "modalities" else VECTORS
        for case, args, error, message in [
            ("nothing", ({},), ValueError, f"{argument} must hold at least 1 modality, however: "
             "its names are []"),
            ("a tensor", (X,), TypeError, f"{argument} must be a mapping of modality names, "
             f"however: type({argument})=Tensor"),
            ("None", (None,), TypeError, f"{argument} must be a mapping of modality names, "
             f"however: type({argument})=NoneType"),
            ("unknown modality", ({**good, "c": X},), ValueError, f"{argument} must have names of "
             "('a', 'b'), however: 'c'"),
            ("a name that is no str", ({1: X},), TypeError, f"{argument} must have str names, "
             "however: 1"),
            ("an empty name", ({"": X},), ValueError, f"{argument} must have non-empty names, "
             "however: ''"),
            ("a None value", ({**good, "a": None},), TypeError, f"{x} must be a Tensor (leave the "
             f"key out, or mark its rows False in valid), however: {x}=None"),
            ("a list", ({**good, "a": [1.0]},), TypeError, f"{x} must be a Tensor, however: "
             f"type({x})=list"),
            ("a vector", ({**good, "a": vectors},), ValueError, f"{vector}unsqueeze(1), however: "
             f"{x}.shape=(2, …)"),
            ("rank 4", ({**good, "a": RANK_4},), ValueError, f"{x} must have shape (B, L, …), "
             f"however: {x}.shape=(2, 1, 5, 3)"),
            ("integers", ({**good, "a": INTEGERS},), TypeError, f"{x} must be floating (embed "
             f"tokens first), however: {x}.dtype=torch.int64"),
            ("device", ({**good, "a": good["a"].to("meta")},), ValueError, f"{x} must be on cpu, "
             f"however: {x}.device=meta"),
            ("batch sizes", ({**good, "b": good["b"][:1]},), ValueError, f"{argument} must have "
             "one batch size, however: 'a' has 2 and 'b' has 1"),
            ("valid, a tensor", (good, VALID), TypeError, f"{valid} must be a mapping of modality "
             f"names, however: type({valid})=Tensor"),
            ("valid, unknown name", (good, {"c": VALID}), ValueError, f"{valid} must have names "
             f"of ('a', 'b') ({argument}), however: 'c'"),
            ("valid of what is absent", ({"b": good["b"]}, {"a": VALID}), ValueError, f"{valid} "
             f"must have names of ('b',) ({argument}), however: 'a'"),
            ("valid, a None value", (good, {"a": None}), TypeError, f"{valid}['a'] must be a "
             f"Tensor …, however: {valid}['a']=None"),
            ("valid, shape", (good, {"a": SHORT_VALID}), ValueError, f"{valid}['a'] must have "
             f"shape (2, 5), however: {valid}['a'].shape=(2, 4)"),
            ("valid, batch size", (good, {"a": ONE_VALID}), ValueError, f"{valid}['a'] must have "
             f"shape (2, 5), however: {valid}['a'].shape=(1, 5)"),
            ("valid, dtype", (good, {"a": FLOATS}), TypeError, f"{valid}['a'] must be bool, "
             f"however: {valid}['a'].dtype=torch.float32"),
            ("valid, device", (good, {"a": META_VALID}), ValueError, f"{valid}['a'] must be on "
             f"cpu, however: {valid}['a'].device=meta"),
        ]:  # fmt: skip
            options = {valid: args[1]} if len(args) > 1 else {}
            yield f"{kind}, {case}", call(function, args[0], **options), error, message


def fusion_cases():
    for kind, function in [("fusion", FUSION), ("attend", FUSION.attend)]:
        yield (
            f"{kind}, features",
            call(function, {"a": X, "b": X}),
            ValueError,
            "modalities['b'] must have 4 features (the size of 'b') in its last dimension, "
            "however: modalities['b'].shape=(2, 5, 3)",
        )
    yield (
        "aligned fusion, lengths",
        call(ALIGNED, {"a": SHORT, "b": Y}),
        ValueError,
        "aligned modalities must all have length 4, however: {'a': 4, 'b': 5}",
    )


def ensemble_cases():
    for kind in ("forward", "translate"):
        function, sized, loose = (getattr(e, kind) for e in (ENSEMBLE, SIZED, LOOSE))
        target = "target_valid must have shape (2, 5), however: target_valid.shape="
        for case, run, error, message in [
            ("features", call(sized, {"a": X, "b": X}), ValueError, "sources['a'] must have 7 "
             "features (the size of 'a') in its last dimension, however: sources['a'].shape="
             "(2, 5, 3)"),
            ("lengths", call(function, {"a": X, "b": SHORT}), ValueError, "aligned sources must "
             "all have length 5, however: {'a': 5, 'b': 4}"),
            ("target_length", call(function, {"a": X}, target_length=4), ValueError, "aligned "
             "sources must all have length 4, however: {'a': 5}"),
            ("target_valid", call(function, {"a": X}, target_valid=SHORT_VALID), ValueError,
             "aligned sources must all have length 4, however: {'a': 5}"),
            ("both", call(function, {"a": X}, target_length=5, target_valid=SHORT_VALID),
             ValueError, f"{target}(2, 4)"),
            ("batch size", call(function, {"a": X}, target_valid=ONE_VALID), ValueError,
             f"{target}(1, 5)"),
            ("target_valid dtype", call(function, {"a": X}, target_valid=FLOATS), TypeError,
             "target_valid must be bool, however: target_valid.dtype=torch.float32"),
            ("target_valid device", call(function, {"a": X}, target_valid=META_VALID), ValueError,
             "target_valid must be on cpu, however: target_valid.device=meta"),
            ("target_valid list", call(function, {"a": X}, target_valid=[True]), TypeError,
             "target_valid must be a Tensor, however: type(target_valid)=list"),
            ("target_valid scalar", call(function, {"a": X}, target_valid=SCALAR_VALID),
             ValueError, "target_valid must have …, however: …"),
            ("target_length float", call(function, {"a": X}, target_length=5.0), TypeError,
             "target_length must be an int, however: …float"),
            ("target_length -1", call(loose, {"a": X}, target_length=-1), ValueError,
             "target_length must not be negative, however: …-1"),
            ("no target_length", call(loose, {"a": X, "b": X}), ValueError, "target_length or "
             "target_valid must be given (a translator is not aligned), however: both are None"),
            ("lengths, one unaligned", call(loose, {"a": SHORT, "b": X}, target_length=4),
             ValueError, "aligned sources must all have length 4, however: {'b': 5}"),
            ("both, unaligned", call(loose, {"a": X}, target_length=4, target_valid=VALID),
             ValueError, "target_valid must have shape (2, 4), however: …(2, 5)"),
        ]:  # fmt: skip
            yield f"{kind} of an ensemble, {case}", run, error, message
    two, four = X[..., :2], SHORT[..., :2]
    yield (
        "combine, lengths",
        call(ENSEMBLE.combine, {"a": two, "b": four}),
        ValueError,
        "translations['b'] must have shape (2, 5, 2), however: translations['b'].shape=(2, 4, 2)",
    )
    yield (
        "combine, width",
        call(ENSEMBLE.combine, {"a": two, "b": X}),
        ValueError,
        "translations['b'] must have 2 features (the size of 'b') in its last dimension, however: "
        "translations['b'].shape=(2, 5, 3)",
    )
    yield (
        "combine, target_valid",
        call(ENSEMBLE.combine, {"a": two}, target_valid=SHORT_VALID),
        ValueError,
        "target_valid must have shape (2, 5), however: target_valid.shape=(2, 4)",
    )


def constructor_cases():
    dims, members = {"a": 3, "b": 4}, {"a": Spy()}
    for kind, build in [
        ("translator", lambda **options: ModalityTranslator(3, 2, **options)),
        ("ensemble", lambda **options: TranslatorEnsemble(members, 2, **options)),
        ("fusion", lambda **options: CrossModalAttentionFusion(dims, **options)),
    ]:
        for name in ("model_dim", "num_heads", "num_layers", "feedforward_dim"):
            low = f"{name} must be at least 1, however: {name}"
            yield f"{kind}, {name}=0", call(build, **{name: 0}), ValueError, f"{low}=0"
            yield f"{kind}, {name}=-1", call(build, **{name: -1}), ValueError, f"{low}=-1"
            rule = f"{name} must be an int, however: {name}"
            yield f"{kind}, {name}=2.0", call(build, **{name: 2.0}), TypeError, f"{rule}=2.0"
            yield f"{kind}, {name}=True", call(build, **{name: True}), TypeError, f"{rule}=True"
        places = "num_places must be at least 0, however: num_places=-1"
        yield f"{kind}, num_places=-1", call(build, num_places=-1), ValueError, places
        places = "num_places must be an int, however: num_places=2.0"
        yield f"{kind}, num_places=2.0", call(build, num_places=2.0), TypeError, places
        for name in ("dropout", "attention_dropout"):
            rule = f"{name} must be in [0, 1), however: {name}"
            for rate in (1.5, 1.0, -0.1, float("nan")):
                run = call(build, **{name: rate})
                yield f"{kind}, {name}={rate}", run, ValueError, f"{rule}={rate}"
            message = f"{name} must be a float, however: {name}='0.1'"
            yield f"{kind}, {name}='0.1'", call(build, **{name: "0.1"}), TypeError, message
        yield (
            f"{kind}, heads",
            call(build, model_dim=8, num_heads=3),
            ValueError,
            "model_dim must be a multiple of num_heads, however: model_dim=8, num_heads=3",
        )
    for name, arguments in [("source_dim", (0, 2)), ("target_dim", (3, 0))]:
        message = f"{name} must be at least 1, however: {name}=0"
        yield f"translator, {name}=0", call(ModalityTranslator, *arguments), ValueError, message
    yield (
        "ensemble, target_dim=0",
        call(TranslatorEnsemble, members, 0),
        ValueError,
        "target_dim must be at least 1, however: target_dim=0",
    )

    def ensemble(members):
        return call(TranslatorEnsemble, members, 2)

    for case, run, error, message in [
        ("empty", ensemble({}), ValueError, "translators must hold at least 1 modality, however: "
         "its names are []"),
        ("a list", ensemble([Spy()]), TypeError, "translators must be a mapping of modality "
         "names, however: type(translators)=list"),
        ("an empty name", ensemble({"": Spy()}), ValueError, "translators must have non-empty "
         "names, however: ''"),
        ("a name that is no str", ensemble({1: Spy()}), TypeError, "translators must have str "
         "names, however: 1"),
        ("no module", ensemble({"a": len}), TypeError, "translators['a'] must be a Module, "
         "however: builtin_function_or_method"),
        ("None", ensemble({"a": None}), TypeError, "translators['a'] must be a Module, however: "
         "NoneType"),
        ("lacks keywords", ensemble({"a": Lacking()}), TypeError, "translators['a'] must have "
         "forward(source, *, valid=None, target_length=None), however: forward(source, "
         "valid=None) lacks ['target_length']"),
        ("a Linear", ensemble({"a": nn.Linear(3, 2)}), TypeError, "translators['a'] must have "
         "forward(source, *, valid=None, target_length=None), however: forward(…lacks "
         "['valid', 'target_length']"),
        ("width 0", ensemble({"a": WideSpy()}), ValueError, "translators['a'].target_dim must be "
         "at least 1, however: translators['a'].target_dim=0"),
        ("two sizes of one source", ensemble({"a": SizedSpy(), "ab": TranslatorEnsemble(
            {"a": ModalityTranslator(3, 2)}, 2)}), ValueError, "all members must read 'a' with "
         "the same number of features, however: …"),
    ]:  # fmt: skip
        yield f"ensemble, {case}", run, error, message

    def fusion(dims, **options):
        return call(CrossModalAttentionFusion, dims, **options)

    for case, run, error, message in [
        ("of one", fusion({"a": 3}), ValueError, "modality_dims must hold at least 2 modalities, "
         "however: its names are ['a']"),
        ("of none", fusion({}), ValueError, "modality_dims must hold at least 2 modalities, "
         "however: its names are []"),
        ("a list", fusion([3, 4]), TypeError, "modality_dims must be a mapping of modality names, "
         "however: type(modality_dims)=list"),
        ("size 0", fusion({"a": 3, "b": 0}), ValueError, "modality_dims['b'] must be at least 1, "
         "however: modality_dims['b']=0"),
        ("size 2.5", fusion({"a": 3, "b": 2.5}), TypeError, "modality_dims['b'] must be an int, "
         "however: modality_dims['b']=2.5"),
        ("an empty name", fusion({"a": 3, "": 4}), ValueError, "modality_dims must have non-empty "
         "names, however: ''"),
        ("a name that is no str", fusion({"a": 3, 1: 4}), TypeError, "modality_dims must have str "
         "names, however: 1"),
        ("pool", fusion({"a": 3, "b": 4}, pool="max"), ValueError, "pool must be one of ('mean', "
         "'last', 'attention'), however: pool='max'"),
    ]:  # fmt: skip
        yield f"fusion, {case}", run, error, message


def loss_cases():
    metrics, reductions = "('l2', 'l1', 'smooth_l1', 'cosine')", "('mean', 'sum', 'none')"
    metric = f"metric must be one of {metrics}, however: metric='mse'"
    reduction = f"reduction must be one of {reductions}, however: reduction='max'"
    nothing = f"reduction must be one of {reductions}, however: reduction=None"
    yield "ConsistencyLoss, metric", call(ConsistencyLoss, "mse"), ValueError, metric
    yield (
        "ConsistencyLoss, reduction",
        call(ConsistencyLoss, reduction="max"),
        ValueError,
        reduction,
    )
    yield "ConsistencyLoss, None", call(ConsistencyLoss, reduction=None), ValueError, nothing
    for kind, loss in [("loss module", ConsistencyLoss("cosine")), ("loss", consistency_loss)]:
        shapes = "reconstructed and target must have one shape (nothing is broadcast), however: "
        for case, run, error, message in [
            ("batch size", call(loss, X, ONE), ValueError, f"{shapes}(2, 5, 3) and (1, 5, 3)"),
            ("length", call(loss, X[:, :1], X), ValueError, f"{shapes}(2, 1, 3) and (2, 5, 3)"),
            ("features", call(loss, X, X[..., :1]), ValueError, f"{shapes}(2, 5, 3) and "
             "(2, 5, 1)"),
            ("vector", call(loss, VECTORS, X), ValueError, "reconstructed must have shape "
             "(B, L, D), for one vector per sample (B, 1, D): call unsqueeze(1), however: "
             "reconstructed.shape=(2, 3)"),
            ("rank", call(loss, X, RANK_4), ValueError, "target must have shape (B, L, D), "
             "however: target.shape=(2, 1, 5, 3)"),
            ("integers", call(loss, X, INTEGERS), TypeError, "target must be floating (embed "
             "tokens first), however: target.dtype=torch.int64"),
            ("None", call(loss, X, None), TypeError, "target must be a Tensor …, however: "
             "target=None"),
            ("device", call(loss, X, META), ValueError, "target must be on cpu, however: "
             "target.device=meta"),
            ("valid shape", call(loss, X, X, valid=SHORT_VALID), ValueError, "valid must have "
             "shape (2, 5), however: valid.shape=(2, 4)"),
            ("valid rank", call(loss, X, X, valid=STEP_VALID), ValueError, "valid must have shape "
             "(2, 5), however: valid.shape=(2, 5, 1)"),
            ("valid dtype", call(loss, X, X, valid=FLOATS), TypeError, "valid must be bool, "
             "however: valid.dtype=torch.float32"),
            ("valid device", call(loss, X, X, valid=META_VALID), ValueError, "valid must be on "
             "cpu, however: valid.device=meta"),
            ("valid list", call(loss, X, X, valid=[True]), TypeError, "valid must be a Tensor, "
             "however: type(valid)=list"),
        ]:  # fmt: skip
            yield f"{kind}, {case}", run, error, message
    yield "loss, metric", call(consistency_loss, X, X, metric="mse"), ValueError, metric
    yield "loss, reduction", call(consistency_loss, X, X, reduction="max"), ValueError, reduction


def batching_cases():
    dims, lengths = {"a": 3, "b": 4}, valid_from_lengths

    def collate(*samples, modality_dims=dims, **options):
        return call(collate_modalities, list(samples), modality_dims, **options)

    sample = "samples[1]['a']"
    good = {"a": X[0]}
    for case, run, error, message in [
        ("lengths, floats", call(lengths, FLOAT_LENGTHS, 3), TypeError, "lengths must be integer, "
         "however: lengths.dtype=torch.float32"),
        ("lengths, bools", call(lengths, BOOL_LENGTHS, 3), TypeError, "lengths must be integer, "
         "however: lengths.dtype=torch.bool"),
        ("lengths, list", call(lengths, [1, 2], 3), TypeError, "lengths must be a Tensor, "
         "however: type(lengths)=list"),
        ("lengths, rank", call(lengths, LENGTHS_2D, 3), ValueError, "lengths must have shape "
         "(B,), however: lengths.shape=(1, 2)"),
        ("length, float", call(lengths, LENGTHS, 3.0), TypeError, "length must be an int, "
         "however: length=3.0"),
        ("length, bool", call(lengths, LENGTHS, True), TypeError, "length must be an int, "
         "however: length=True"),
        ("length, -1", call(lengths, LENGTHS, -1), ValueError, "length must not be negative, "
         "however: length=-1"),
        ("no sample", collate(), ValueError, "samples must hold at least one sample, however: it "
         "is empty"),
        ("no modality", collate({}, modality_dims={}), ValueError, "modality_dims must hold at "
         "least 1 modality, however: its names are []"),
        ("size 0", collate({}, modality_dims={"a": 0}), ValueError, "modality_dims['a'] must be "
         "at least 1, however: modality_dims['a']=0"),
        ("a tensor", collate(good, X), TypeError, "samples[1] must be a mapping of modality "
         "names, however: type(samples[1])=Tensor"),
        ("unknown modality", collate(good, {"c": X[0]}), ValueError, "samples[1] must have names "
         "of ('a', 'b'), however: 'c'"),
        ("None", collate(good, {"a": None}), TypeError, f"{sample} must be a Tensor (leave the "
         f"key out), however: {sample}=None"),
        ("integers", collate(good, {"a": INTEGERS[0]}), TypeError, f"{sample} must be floating "
         f"(embed tokens first), however: {sample}.dtype=torch.int64"),
        ("features", collate(good, {"a": Y[0]}), ValueError, f"{sample} must have shape (L, 3) or "
         f"(3,), however: {sample}.shape=(5, 4)"),
        ("rank 3", collate(good, {"a": X}), ValueError, f"{sample} must have shape (L, 3) or "
         f"(3,), however: {sample}.shape=(2, 5, 3)"),
        ("aligned lengths", collate(good, {"a": X[0], "b": Y[0, :4]}, aligned=("a", "b")),
         ValueError, "aligned modalities of samples[1] must have equal lengths, however: {'a': 5, "
         "'b': 4}"),
        ("aligned, unknown", collate(good, aligned=("c",)), ValueError, "aligned must have names "
         "of ('a', 'b'), however: 'c'"),
        ("aligned, str", collate(good, aligned="a"), TypeError, "aligned must be a sequence of "
         "names, however: aligned='a'"),
    ]:  # fmt: skip
        yield f"batching, {case}", run, error, message


CASES = [
    pytest.param(*case, id=name)
    for cases in (
        translator_cases,
        mapping_cases,
        fusion_cases,
        ensemble_cases,
        constructor_cases,
        loss_cases,
        batching_cases,
    )
    for name, *case in cases()
]


def pattern(message):
    """What stands in the message, ``…`` for anything."""
    return "^" + ".*".join(re.escape(part) for part in message.split("…")) + "$"


@pytest.mark.parametrize(("run", "error", "message"), CASES)
def test_is_refused_before_any_computation(run, error, message):
    assert ", however: " in message
    with Uncomputed(), pytest.raises(error, match=pattern(message)) as raised:
        run()
    assert raised.type is error


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (SHORT[..., :2], ValueError, "must have shape (2, 5, 2), however: ….shape=(2, 4, 2)"),
        (X, ValueError, "must have shape (2, 5, 2), however: ….shape=(2, 5, 3)"),
        (ONE[..., :2], ValueError, "must have shape (2, 5, 2), however: ….shape=(1, 5, 2)"),
        (VECTORS[:, :2], ValueError, "must have shape (2, 5, 2), however: ….shape=(2, 2)"),
        (None, TypeError, "must be a Tensor…, however: …=None"),
        ((X, X), TypeError, "must be a Tensor, however: type(…)=tuple"),
    ],
)
def test_a_member_that_answers_something_else_is_named(answer, error, message):
    ensemble = TranslatorEnsemble({"mine": Answers(answer)}, 2, **SIZES)
    for function in (ensemble, ensemble.translate):
        with pytest.raises(error, match=pattern(f"translators['mine'](...) {message}")):
            function({"mine": X})


def test_names_of_unknown_modalities_are_never_a_key_error():
    for module in (ENSEMBLE, FUSION):
        for name in ("keys", "a.b", "A", "forward"):
            with pytest.raises(ValueError, match=re.escape(repr(name))):
                module({name: X})


def test_a_joint_member_is_refused_its_sources_by_name():
    ensemble = TranslatorEnsemble({"both": JointSpy()}, 2, **SIZES)
    with Uncomputed(), pytest.raises(ValueError, match="'both'"):
        ensemble({"both": X})
    with Uncomputed(), pytest.raises(ValueError, match="one batch size, however: 'a' has 2"):
        ensemble({"a": X, "b": ONE})
