"""Every way to run a layer gives the same finite answer, also where nothing is observed."""

import contextlib
import copy
import functools
import inspect
import itertools

import pytest
import torch
from cases import CASES, FITTED, IMPUTERS, LAYERS, Batch, built, weighted

# Few and small: to make a graph takes seconds.
GRAPHS = (
    "translator-aligned",
    "translator-unaligned",
    "ensemble-mixed",
    "fusion-last-aligned",
    "fusion-attention-unaligned",
    "loss-cosine-mean",
    "linear-joint-aligned-places",
    "projected-joint-aligned-places",
    "kernel-single-aligned-window",
    "retrieval-joint-unaligned-places",
    "ensemble-weights",
    "donors-aligned",
)
DYNAMIC_GRAPHS = ("translator-aligned", "fusion-last-aligned", "ensemble-weights")
ONNX_GRAPHS = ("translator-unaligned", "ensemble-mixed", "fusion-attention-unaligned")
TOLERANCES = {  # against float64
    "float64": {"rtol": 1e-9, "atol": 1e-9},
    "float32": {"rtol": 1e-4, "atol": 1e-4},
    "autocast": {"rtol": 0.1, "atol": 0.15},  # bfloat16 has 8 bits, and there are two layers
}


def each(names):
    """Runs a test for some of the cases."""
    return pytest.mark.parametrize(
        "case", [c for c in (*CASES, *FITTED) if c.name in names], ids=str
    )


each_precision = pytest.mark.parametrize("precision", TOLERANCES)


def module_of(case, precision):
    """Returns the case's module in this precision; autocast takes float32 parameters."""
    dtype = torch.float64 if precision == "float64" else torch.float32
    return built(case, dtype, num_layers=1)


def batch_of(case, precision="float32", size=7, length=11, seed=0, empty=0):
    """Returns a batch of which one sample has nothing observed.

    Each group has a length of its own, and no size is that of another dimension: what is equal
    in the example is taken as one size by a compiler.
    """
    lengths = {group: length + 2 * i for i, group in enumerate(case.all_groups)}
    dtype = torch.float64 if precision == "float64" else torch.float32
    # Drawn in float32 for all: the same values.
    batch = case.batch(size, lengths, seed=seed, rate=0.7, target="valid")
    for valid in batch.valid.values():
        valid[empty] = False
    batch = batch.put(torch.nan)
    return Batch({n: t.to(dtype) for n, t in batch.x.items()}, batch.valid, None,
                 batch.target_valid)  # fmt: skip


def lower(precision):
    """Returns the context of this precision."""
    if precision == "autocast":
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


@functools.cache
def expected(case):
    """Returns the answer in float64, in training, with gradients."""
    # Of a copy: the test that asks first may be in the midst of compiling the module itself.
    module = copy.deepcopy(module_of(case, "float64")).train()
    return case.call(module, batch_of(case, "float64")).detach()


def check(case, precision, output):
    """Compares an answer with that in float64."""
    wanted = torch.float64 if precision == "float64" else torch.float32
    assert output.dtype == wanted
    assert output.isfinite().all()
    torch.testing.assert_close(output.double(), expected(case), **TOLERANCES[precision])


@pytest.mark.parametrize("case", [*CASES, *IMPUTERS, *FITTED], ids=str)
@each_precision
def test_eager(case, precision):
    module, batch = module_of(case, precision), batch_of(case, precision)
    for training, grad in itertools.product((True, False), repeat=2):
        module.train(training)
        with torch.set_grad_enabled(grad), lower(precision):
            check(case, precision, case.call(module, batch).detach())


@pytest.mark.parametrize("case", [*CASES, *IMPUTERS, *FITTED], ids=str)
@each_precision
def test_gradients_are_finite(case, precision):
    module, batch = module_of(case, precision).train(), batch_of(case, precision)
    x = {name: t.clone().requires_grad_() for name, t in batch.x.items()}
    with lower(precision):
        output = case.call(module, Batch(x, batch.valid, None, batch.target_valid))
    leaves = [*x.values(), *module.parameters()]
    for grad in torch.autograd.grad(weighted(output), leaves, materialize_grads=True):
        assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", [*LAYERS, *FITTED], ids=str)
def test_half_precision_parameters(case, dtype):
    module = built(case, dtype, num_layers=1)
    for training in (True, False):
        output = case.call(module.train(training), batch_of(case))
        assert output.dtype == dtype
        assert output.isfinite().all()
        reference = expected(case)
        torch.testing.assert_close(output.double(), reference, **TOLERANCES["autocast"])


@pytest.fixture
def dynamo():
    """Starts with nothing compiled, and leaves nothing behind."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize(
    ("training", "grad", "precision"),
    [(True, True, "float32"), (True, True, "autocast"), (False, False, "float64")],
)
@each(GRAPHS)
def test_compiled(case, training, grad, precision):
    module, batch = module_of(case, precision).train(training), batch_of(case, precision)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    with torch.set_grad_enabled(grad), lower(precision):
        output = case.call(compiled, batch)
        check(case, precision, output.detach())
        if grad and not case.is_loss and case.learns:
            compare_gradients(module, output, case.call(module, batch), precision)
        # Other samples, of which others miss other modalities: the same graph.
        other = batch_of(case, precision, seed=1, empty=2)
        with torch.compiler.set_stance("fail_on_recompile"):
            again = case.call(compiled, other)
        reference = case.call(module, other)
    torch.testing.assert_close(again, reference, **TOLERANCES[precision])


def compare_gradients(module, output, reference, precision):
    """Compares what the parameters get."""
    parameters = list(module.parameters())
    first, second = (torch.autograd.grad(weighted(x), parameters) for x in (output, reference))
    for grad, wanted in zip(first, second, strict=True):
        assert grad.isfinite().all()
        torch.testing.assert_close(grad, wanted, **TOLERANCES[precision])


@pytest.mark.usefixtures("dynamo")
@each(DYNAMIC_GRAPHS)
def test_compiled_for_any_size(case):
    module = module_of(case, "float32").eval()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        case.call(compiled, batch_of(case))
        other = batch_of(case, size=9, length=17)
        with torch.compiler.set_stance("fail_on_recompile"):
            output = case.call(compiled, other)
        torch.testing.assert_close(output, case.call(module, other), **TOLERANCES["float32"])


def dynamic_arguments(case, batch):
    """Returns the arguments, and that their batch size and their lengths are any."""
    args, kwargs = case.arguments(batch)
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    any_size = dict.fromkeys(range(2), torch.export.Dim.DYNAMIC)

    def shapes(arguments):
        return torch.utils._pytree.tree_map(lambda _: any_size, arguments)

    names = list(inspect.signature(type(case.build()).forward).parameters)[1:]
    by_name = dict(zip(names, args, strict=False)) | kwargs
    return args, kwargs, shapes(by_name)


@pytest.mark.parametrize(
    ("training", "precision"), [(True, "float32"), (False, "float64"), (False, "autocast")]
)
@each(GRAPHS)
def test_exported(case, training, precision):
    module = module_of(case, precision).train(training)
    args, kwargs, shapes = dynamic_arguments(case, batch_of(case, precision, size=3, length=5))
    with torch.no_grad(), lower(precision):
        program = torch.export.export(module, args, kwargs, dynamic_shapes=shapes).module()
        check(case, precision, case.call(program, batch_of(case, precision)))
        for size, length in ((1, 6), (5, 2)):
            batch = batch_of(case, precision, size=size, length=length, seed=2)
            output, reference = case.call(program, batch), case.call(module, batch)
            torch.testing.assert_close(output, reference, **TOLERANCES[precision])


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch 2.13 of itself
@each(ONNX_GRAPHS)
def test_onnx(case):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    module = module_of(case, "float32").eval()
    args, kwargs, shapes = dynamic_arguments(case, batch_of(case))
    program = torch.onnx.export(
        module, args, kwargs=kwargs, dynamic_shapes=shapes, dynamo=True, verbose=False
    )
    batch = batch_of(case, size=2, length=6, seed=1)
    args, kwargs = case.arguments(batch)
    (output,) = program(*args, **kwargs)
    torch.testing.assert_close(output, case.call(module, batch), **TOLERANCES["float32"])
