"""Linear layers on a CPU: whichever library multiplies, they say and learn the same."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from examples.benchmarks.speed.timing import onednn
from modimpute import (
    CrossModalAttentionFusion,
    ModalityImputer,
    ModalityTranslator,
    TranslatorEnsemble,
    _product,
)

DIMS = {"text": 5, "audio": 3, "vision": 4}


@pytest.fixture(autouse=True)
def everywhere(monkeypatch):
    """oneDNN for products of any size, on whatever processor the tests run."""
    if not (torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(_product, "LEAST", 1)
    monkeypatch.setattr(_product, "is_amd", lambda: True)
    monkeypatch.setattr(_product, "is_wide", lambda: True)


@pytest.fixture
def calls(monkeypatch):
    """Counts the products of oneDNN."""
    seen, of_onednn = [], _product._of_onednn

    def counted(*operands):
        seen.append(operands)
        return of_onednn(*operands)

    monkeypatch.setattr(_product, "_of_onednn", counted)
    return seen


def operands(*shape, bias=True):
    torch.manual_seed(len(shape))
    x = torch.randn(*shape, requires_grad=True)
    weight = torch.randn(7, shape[-1], requires_grad=True)
    return (x, weight, torch.randn(7, requires_grad=True)) if bias else (x, weight)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6), (1, 1, 6), (1, 6), (2, 1, 3, 6)])
def test_says_and_learns_the_same(shape, bias, calls):
    given = operands(*shape, bias=bias)
    found, expected = _product.product(*given), F.linear(*given)
    assert len(calls) == 1
    torch.testing.assert_close(found, expected)
    grads = [torch.autograd.grad(out.sin().sum(), given) for out in (found, expected)]
    assert len(calls) == 3
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("gradient", ["expanded", "transposed"])
def test_gradients_come_in_any_layout(gradient):
    given = operands(4, 7)
    gradient = torch.ones(1).expand(4, 7) if gradient == "expanded" else torch.randn(7, 4).t()
    found = torch.autograd.grad(_product.product(*given), given, gradient)
    torch.testing.assert_close(found, torch.autograd.grad(F.linear(*given), given, gradient))


def test_second_order(calls):
    given = operands(2, 3, 6)
    grads = []
    for linear in (_product.product, F.linear):
        first = torch.autograd.grad(linear(*given).sin().sum(), given, create_graph=True)
        grads.append(torch.autograd.grad(sum(g.square().sum() for g in first), given))
    assert len(calls) > 3
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


def test_only_what_is_learned_gets_a_gradient(calls):
    x, weight, bias = operands(2, 3, 6)
    _product.product(x.detach(), weight.detach(), bias).sum().backward()
    assert len(calls) == 1
    assert (x.grad, weight.grad) == (None, None)
    torch.testing.assert_close(bias.grad, torch.full((7,), 6.0))
    _product.product(x.detach(), weight, bias.detach()).sum().backward()
    assert len(calls) == 3
    assert x.grad is None
    torch.testing.assert_close(weight.grad, x.detach().sum((0, 1)).expand(7, -1))


def test_what_was_made_may_be_written_to():
    given = operands(2, 3, 6)
    grads = []
    for linear in (_product.product, lambda *given: F.linear(*given).clone()):
        out = linear(*given)
        out.mul_(3.0)
        grads.append(torch.autograd.grad(out.sin().sum(), given))
    torch.testing.assert_close(*grads)


def test_a_weight_that_changed_before_the_backward_pass_is_noticed():
    x, weight, bias = operands(2, 3, 6)
    out = _product.product(x, weight, bias)
    with torch.no_grad():
        weight.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


class Wrapped(torch.Tensor):
    """As quantised and distributed tensors are."""


def other_cases():
    x, weight, bias = (tensor.detach() for tensor in operands(2, 3, 6))
    parameters = (nn.Parameter(weight), bias)
    yield "float64", lambda: _product.product(x.double(), weight.double(), bias.double())
    yield "half of it", lambda: _product.product(x.bfloat16(), weight.bfloat16(), bias.bfloat16())
    yield "meta", lambda: _product.product(x.to("meta"), weight.to("meta"), bias.to("meta"))
    yield "subclass", lambda: _product.product(x, weight.as_subclass(Wrapped), bias)
    yield "subclass read", lambda: _product.product(x.as_subclass(Wrapped), weight, bias)
    yield "empty", lambda: _product.product(x[:0], weight, bias)
    yield "strided", lambda: _product.product(x.transpose(0, 1), weight, bias)
    yield "vmap", lambda: torch.func.vmap(_product.product, (0, None, None))(x, weight, bias)
    yield "traced", lambda: torch.jit.trace(_product.product, (x, *parameters), check_trace=False)
    yield "autocast", lambda: _autocast(x, weight, bias)
    yield "switched off", lambda: _switched_off(x, weight, bias)


def _autocast(*given):
    with torch.autocast("cpu", torch.bfloat16):
        assert _product.product(*given).dtype == torch.bfloat16


def _switched_off(*given):
    with onednn(False):
        _product.product(*given)


@pytest.mark.filterwarnings("ignore")  # torch's own: tracing is deprecated
@pytest.mark.parametrize("case", list(other_cases()), ids=lambda case: case[0])
def test_everything_else_is_left_to_torch(case, calls):
    case[1]()
    assert not calls
    _product.product(*operands(2, 3, 6))
    assert calls


def test_small_products_are_left_to_torch(calls, monkeypatch):
    given = operands(2, 3, 6)
    monkeypatch.setattr(_product, "LEAST", 2 * 3 * 6 * 7 + 1)
    _product.product(*given)
    assert not calls
    monkeypatch.setattr(_product, "LEAST", 2 * 3 * 6 * 7)
    _product.product(*given)
    assert calls


def test_wide_rows_alone_where_512_bits_take_two_steps(calls, monkeypatch):
    monkeypatch.setattr(_product, "is_wide", lambda: False)
    for width, count in ((7, 2), (8, 0)):  # the product and the gradient of x
        monkeypatch.setattr(_product, "WIDE", width)
        given = operands(2, 5, 8)
        found, expected = _product.product(*given), F.linear(*given)
        grads = [torch.autograd.grad(out.sin().sum(), given) for out in (found, expected)]
        torch.testing.assert_close(*grads)
        assert len(calls) == count
        calls.clear()


def test_other_processors_have_their_own_library(calls, monkeypatch):
    monkeypatch.setattr(_product, "is_amd", lambda: False)
    _product.product(*operands(2, 3, 6)).sum().backward()
    assert not calls


def modules():
    options = {"model_dim": 8, "num_heads": 2, "dropout": 0.0}
    x = {name: torch.randn(2, 6, dim) for name, dim in DIMS.items()}
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[0, 3:] = False
    for aligned in (True, False):
        module = ModalityTranslator(5, 3, aligned=aligned, **options)
        length = {} if aligned else {"target_length": 7}
        yield (
            f"translator, {aligned=}",
            module,
            lambda x, m=module, k=length: m(x["text"], valid=valid, **k),
            x,
        )
    members = {name: ModalityTranslator(dim, 8, **options) for name, dim in DIMS.items()}
    ensemble = TranslatorEnsemble(members, 2, **options)
    yield "ensemble", ensemble, lambda x: ensemble(x, valid={"text": valid}), x
    for latents in (0, 4):
        fusion = CrossModalAttentionFusion(DIMS, num_latents=latents, **options)
        yield f"fusion, {latents=}", fusion, lambda x, f=fusion: f(x, valid={"text": valid}), x
    imputer = ModalityImputer(DIMS, **options)
    yield "imputer", imputer, lambda x: imputer(x, valid={"text": valid})["text"], x


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("case", list(modules()), ids=lambda case: case[0])
def test_layers_say_and_learn_the_same(case, large, calls, monkeypatch):
    monkeypatch.setattr("modimpute._elementwise.LARGE", 0 if large else 10**9)
    _, module, call, x = case
    found = everything(call, module, x)
    count = len(calls)
    assert count > 10
    monkeypatch.setattr(_product, "is_amd", lambda: False)
    expected = everything(call, module, x)
    assert len(calls) == count
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        message = f"{name}: {{}}".format
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-5, msg=message)


def everything(call, module, x):
    """Returns the output of ``call`` and all gradients."""
    module.zero_grad()
    out = call(x)
    out.sin().sum().backward()
    grads = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return {"": out.detach()} | grads


def test_exported_programs_are_plain(calls):
    module = ModalityTranslator(5, 3, model_dim=8, num_heads=2).eval()
    program = torch.export.export(module, (torch.randn(2, 6, 5),))
    assert "mkldnn" not in program.graph_module.code
    assert not calls
