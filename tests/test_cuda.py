"""On a GPU: the answers of a CPU, and no waiting for it. Skipped where there is none."""

import copy
import functools
import itertools

import pytest
import torch
from cases import CASES, FITTED, IMPUTERS, LAYERS, Batch, weighted
from test_modes import (
    GRAPHS,
    batch_of,
    check,
    compare_gradients,
    each,
    each_precision,
    module_of,
)

from modimpute import (
    DonorMatching,
    KernelTranslator,
    LinearTranslator,
    ModalityTranslator,
    RetrievalTranslator,
    fit_ensemble,
)

if not torch.cuda.is_available():
    pytest.skip("there is no GPU", allow_module_level=True)

# What torch says of itself, on a GPU.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
each_case = pytest.mark.parametrize("case", [*CASES, *IMPUTERS, *FITTED], ids=str)


@functools.cache
def on_gpu(case, precision):
    """Returns the module of the other tests, moved there."""
    return copy.deepcopy(module_of(case, precision)).cuda()


def moved(batch):
    """Returns the same batch there."""
    x = {name: t.cuda() for name, t in batch.x.items()}
    valid = {name: v.cuda() for name, v in batch.valid.items()}
    exists = batch.target_valid
    return Batch(x, valid, None, None if exists is None else exists.cuda())


def lower(precision):
    return torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "autocast")


@each_case
@each_precision
def test_same_answer(case, precision):
    module, batch = on_gpu(case, precision), moved(batch_of(case, precision))
    for training, grad in itertools.product((True, False), repeat=2):
        module.train(training)
        with torch.set_grad_enabled(grad), lower(precision):
            output = case.call(module, batch)
        assert output.is_cuda
        check(case, precision, output.detach().cpu())


@each_case
def test_same_gradients(case):
    grads = []
    for module, batch in (
        (module_of(case, "float64"), batch_of(case, "float64")),
        (on_gpu(case, "float64"), moved(batch_of(case, "float64"))),
    ):
        module.train()
        x = {name: t.clone().requires_grad_() for name, t in batch.x.items()}
        output = case.call(module, Batch(x, batch.valid, None, batch.target_valid)).cpu()
        leaves = [*x.values(), *module.parameters()]
        grads.append(torch.autograd.grad(weighted(output), leaves, materialize_grads=True))
    for wanted, grad in zip(*grads, strict=True):
        torch.testing.assert_close(grad.cpu(), wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", [*LAYERS, *FITTED], ids=str)
def test_half_precision_parameters(case, dtype):
    module = copy.deepcopy(module_of(case, "float32")).to("cuda", dtype)
    output = case.call(module, moved(batch_of(case)))
    assert output.dtype == dtype
    check(case, "autocast", output.detach().cpu().float())


@each_case
def test_never_waits_for_the_gpu(case):
    module, batch = on_gpu(case, "float32").train(), moved(batch_of(case))
    case.call(module, batch)  # libraries are loaded
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                output = case.call(module, batch)
        if output.requires_grad:
            output.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@each(GRAPHS)
@pytest.mark.parametrize("precision", ["float32", "autocast"])
def test_compiled(case, precision):
    torch.compiler.reset()
    module, batch = on_gpu(case, precision).train(), moved(batch_of(case, precision))
    with lower(precision):
        output = case.call(torch.compile(module, fullgraph=True), batch)
        check(case, precision, output.detach().cpu())
        if not case.is_loss and case.learns:
            compare_gradients(module, output.cpu(), case.call(module, batch).cpu(), precision)


@each(GRAPHS)
def test_captured_as_a_cuda_graph(case):
    module, batch = on_gpu(case, "float32").eval(), moved(batch_of(case))
    with torch.no_grad():
        case.call(module, batch)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = case.call(module, batch)
        graph.replay()
        torch.testing.assert_close(output, case.call(module, batch))


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("dim", [40, 64])
@pytest.mark.parametrize("precision", ["float32", "autocast"])
def test_writes_no_attention_matrix(precision, dim, aligned):
    size, length, heads = 4, 4096, 4
    module = ModalityTranslator(8, 8, model_dim=dim, num_heads=heads, aligned=aligned).cuda()
    x = torch.randn(size, length, 8, device="cuda")
    valid = torch.rand(size, length, device="cuda") < 0.7
    options = {} if aligned else {"target_length": length}
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with lower(precision):
        module(x, valid=valid, **options).sum().backward()
    assert torch.cuda.max_memory_allocated() - before < size * heads * length**2 * 2


def test_fits_an_ensemble():
    dims = {"text": 4, "vision": 3}
    g = torch.Generator().manual_seed(0)
    sources = {name: torch.randn(200, 1, dim, generator=g) for name, dim in dims.items()}
    target = sources["text"][..., :2].sin() + 0.1 * torch.randn(200, 1, 2, generator=g)
    errors = {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        members = {
            "kernel": KernelTranslator(dims, 2, steps=20, device=device),
            "retrieval": RetrievalTranslator(dims, 2, steps=20, device=device),
            "linear": LinearTranslator(dims, 2, device=device),
        }
        x = {name: t.to(device) for name, t in sources.items()}
        y = target.to(device)
        ensemble = fit_ensemble(x, y, translators=members, donors=DonorMatching(2, device=device))
        with torch.no_grad():
            out = ensemble(x)
        assert out.device.type == device
        errors[device] = (out - y).square().mean().item()
    assert errors["cuda"] == pytest.approx(errors["cpu"], rel=0.2)
    assert errors["cuda"] < 0.2 * target.var().item()
