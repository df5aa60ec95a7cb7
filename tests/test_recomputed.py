"""Large states: what is cheap to compute is computed again in the backward pass, not kept."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from modimpute import CrossModalAttentionFusion, ModalityImputer, ModalityTranslator, _elementwise
from modimpute._positions import rotation, step_positions
from modimpute._transformer import Block

DIMS = {"text": 5, "audio": 3, "vision": 4}


def block(dropout=0.0, dtype=torch.float64, dim=8):
    torch.manual_seed(3)
    made = Block(dim, 2, 6, dropout, 0.0, None, dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return made


def run(layer, x, mask=None):
    return layer(x, rotation(step_positions(x), x.shape[-1], 2), mask)


def states(length=5, dtype=torch.float64):
    torch.manual_seed(4)
    return torch.randn(2, length, 8, dtype=dtype)


@pytest.fixture
def again(monkeypatch):
    """Switches it on for states of any size, or off."""

    def switch(on):
        monkeypatch.setattr(_elementwise, "LARGE", 0 if on else 10**9)

    switch(True)
    return switch


def everything(call, module, x):
    """Returns the output of ``call`` and all gradients; the same random numbers each time."""
    module.zero_grad()
    x = {name: one.detach().requires_grad_() for name, one in x.items()}
    torch.manual_seed(0)
    out = call(x)
    out = out if isinstance(out, torch.Tensor) else torch.cat([o.flatten() for o in out.values()])
    (out.float() if out.dtype == torch.bfloat16 else out).sin().sum().backward()
    grads = {name: one.grad for name, one in x.items()}
    grads |= {name: p.grad for name, p in module.named_parameters()}
    return {"": out.detach()} | {name: g for name, g in grads.items() if g is not None}


def modules():
    options = {"model_dim": 8, "num_heads": 2, "dropout": 0.2, "dtype": torch.float64}
    x = {name: torch.randn(2, 6, dim).double() for name, dim in DIMS.items()}
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[0, 3:] = False
    for aligned in (True, False):
        translator = ModalityTranslator(5, 3, aligned=aligned, **options)
        length = {} if aligned else {"target_length": 7}
        yield (
            f"translator, {aligned=}",
            translator,
            lambda x, t=translator, k=length: t(x["text"], valid=valid, **k),
            x,
        )
    for latents in (0, 4):
        fusion = CrossModalAttentionFusion(DIMS, num_latents=latents, **options)
        yield f"fusion, {latents=}", fusion, lambda x, f=fusion: f(x, valid={"text": valid}), x
    imputer = ModalityImputer(DIMS, **options)
    yield "imputer", imputer, lambda x: imputer(x, valid={"text": valid}), x


@pytest.mark.parametrize("case", list(modules()), ids=lambda case: case[0])
def test_layers_say_the_same_and_learn_the_same(case, again):
    _, module, call, x = case
    found = everything(call, module, x)
    again(False)
    expected = everything(call, module, x)
    assert found.keys() == expected.keys()
    assert sum(grad.abs().sum() > 0 for grad in found.values()) > 10
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.usefixtures("again")
def test_gradients_of_first_and_second_order():
    layer, x = block(), states().requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *parameters):
        return torch.func.functional_call(
            layer,
            dict(zip(names, parameters, strict=True)),
            (x, rotation(step_positions(x), 8, 2), None),
        )

    given = (x, *layer.parameters())
    assert torch.autograd.gradcheck(call, given)
    with sdpa_kernel(SDPBackend.MATH):  # the faster ones have no second derivative
        assert torch.autograd.gradgradcheck(call, given)


@pytest.mark.usefixtures("again")
def test_gradients_of_second_order_with_dropout():
    layer, x = block(dropout=0.4), states().requires_grad_()

    def call(x):
        torch.manual_seed(1)
        return run(layer, x)

    assert torch.autograd.gradcheck(call, (x,))
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(call, (x,))


def test_autocast_learns_the_same(again):
    layer, x = block(0.2, torch.float32), {"x": states(50, torch.float32)}

    def call(x):
        with torch.autocast("cpu", torch.bfloat16):
            return run(layer, x["x"])

    found = everything(call, layer, x)
    again(False)
    expected = everything(call, layer, x)
    for name, grad in found.items():
        assert grad.dtype == expected[name].dtype
        far = (grad - expected[name]).norm() / expected[name].norm()
        assert far < 0.02, name  # bfloat16 has steps of .4 % to .8 %


def test_autocast_keeps_no_copy_of_a_weight_that_has_no_gradient(again):
    layer, grads = block(dtype=torch.float32), []
    for sizes in ((True, False), (False, False)):  # large, then small in the same region
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            for on in sizes:
                again(on)
                out = run(layer, states(20, torch.float32))
        out.float().square().sum().backward()
        grads.append([p.grad.clone() for p in layer.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)
        assert a.abs().sum() > 0


@pytest.mark.usefixtures("again")
def test_what_is_frozen_has_no_gradient_and_what_is_not_has():
    layer = block()
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_("feedforward_in" in name or name == "attention_norm.bias")
    run(layer, states()).sum().backward()
    learning = [name for name, p in layer.named_parameters() if p.grad is not None]
    assert learning == ["attention_norm.bias", "feedforward_in.weight", "feedforward_in.bias"]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(
    "name", ["attention.input", "attention.output", "feedforward_in", "feedforward_out"]
)
def test_what_a_hook_has_seen_is_not_written_to(name, grad):
    layer, seen = block(), []
    handle = layer.get_submodule(name).register_forward_hook(
        lambda module, inputs, out: seen.extend([out, out.clone(), module, *inputs])
    )
    with torch.set_grad_enabled(grad):
        run(layer, states())
        handle.remove()
        assert torch.equal(seen[0], seen[1])
        torch.testing.assert_close(seen[2](seen[3]), seen[1])


class Adapter(nn.Module):
    """As low-rank adapters are put in the place of a linear layer."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return self.linear(x) + 1.0


@pytest.mark.usefixtures("again")
@pytest.mark.parametrize("name", ["attention.input", "feedforward_in", "feedforward_out"])
def test_an_adapter_or_a_hook_is_called(name):
    layer, x = block(), states()
    plain = run(layer, x)
    adapted = copy.deepcopy(layer)
    adapted.set_submodule(name, Adapter(adapted.get_submodule(name)))
    assert not torch.allclose(run(adapted, x), plain)
    seen = []
    kinds = ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook")
    for kind in kinds:
        hooked = copy.deepcopy(layer)
        getattr(hooked.get_submodule(name), kind)(lambda *_: seen.append(1))
        run(hooked, x.clone().requires_grad_()).sum().backward()
    assert len(seen) == len(kinds)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, in jvp
@pytest.mark.usefixtures("again")
def test_functional_transforms_and_checkpoints_work():
    layer, x = block(), states()
    parameters = dict(layer.named_parameters())

    def loss(parameters, x):
        by = rotation(step_positions(x), 8, 2)
        return torch.func.functional_call(layer, parameters, (x, by, None)).sin().sum()

    loss(parameters, x).backward()
    expected = {name: p.grad for name, p in layer.named_parameters()}
    found = torch.func.grad(loss)(parameters, x)
    with sdpa_kernel(SDPBackend.MATH):  # others have no rule for batches
        one_by_one = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x.unsqueeze(1))
        directions = {name: torch.ones_like(p) for name, p in parameters.items()}
        _, change = torch.func.jvp(lambda p: loss(p, x), (parameters,), (directions,))
    torch.testing.assert_close(change, sum(grad.sum() for grad in expected.values()))
    layer.zero_grad(set_to_none=True)
    checkpoint(run, layer, x.clone().requires_grad_(), use_reentrant=False).sin().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(found[name], expected[name])
        torch.testing.assert_close(one_by_one[name].sum(0), expected[name])
        torch.testing.assert_close(parameter.grad, expected[name])


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("what", ["state", "source"])
def test_dual_numbers_work(what, again):
    again(what == "state")
    x, valid = states(), torch.tensor([[True] * 4 + [False], [True] * 5])
    layer = block() if what == "state" else ModalityTranslator(8, 3, dtype=x.dtype).eval()

    def call(x):
        return run(layer, x) if what == "state" else layer(x, valid=valid)

    direction = torch.randn_like(x)
    with sdpa_kernel(SDPBackend.MATH):
        expected = torch.func.jvp(call, (x,), (direction,))[1]
        with forward_ad.dual_level():
            found = forward_ad.unpack_dual(call(forward_ad.make_dual(x, direction))).tangent
    assert expected.abs().sum() > 1
    torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("again")
def test_a_parameter_that_changed_before_the_backward_pass_is_noticed():
    layer = block()
    out = run(layer, states().requires_grad_())
    with torch.no_grad():
        layer.feedforward_out.weight.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_small_states_and_those_without_gradient_are_left_alone(again):
    layer = block()
    assert "LinearOfGelu" in graph(run(layer, states()))
    with torch.no_grad():
        assert run(layer, states()).grad_fn is None
    again(False)
    assert "LinearOfGelu" not in graph(run(layer, states()))


def graph(out):
    """The names of all nodes behind ``out``."""
    names, todo = set(), [out.grad_fn]
    while todo:
        node = todo.pop()
        names.add(node.name())
        todo += [one for one, _ in node.next_functions if one is not None]
    return " ".join(names)
