"""What every module keeps to: state, devices, dtypes, copies, memory and synchronisation."""

import copy
import functools
import inspect
import json
import pickle
import weakref

import pytest
import torch
from cases import (
    CASES,
    FITTED,
    FUSIONS,
    IMPUTERS,
    LAYERS,
    Batch,
    built,
    flat,
    randomize,
    weighted,
)
from safetensors.torch import load_model, save_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import modimpute

each_case = pytest.mark.parametrize("case", [*CASES, *IMPUTERS, *FITTED], ids=str)
each_layer = pytest.mark.parametrize("case", [*LAYERS, *IMPUTERS], ids=str)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
MODULES = {"translators", "donors"}  # arguments that are modules
# Not attributes: where the parameters are tells it.
PLACEMENT = {"device", "dtype"}


def arguments(module):
    """Returns the constructor arguments, read off the public attributes."""
    names = inspect.signature(type(module)).parameters
    return {name: getattr(module, name) for name in names if name not in PLACEMENT}


def test_every_public_class_has_a_case():
    classes = {getattr(modimpute, name) for name in modimpute.__all__}
    classes = {item for item in classes if inspect.isclass(item)}
    # These two learn nothing; their own tests hold what fits them of all this.
    classes -= {modimpute.ModalityDropout, modimpute.ModalityNormalizer}
    assert {type(case.build()) for case in [*CASES, *IMPUTERS, *FITTED]} == classes


@each_case
class TestState:
    def test_keys_are_frozen(self, case):
        assert list(case.build().state_dict()) == list(case.keys)

    def test_places_are_an_option(self, case):
        module = case.build(num_places=0)
        keys = [key for key in case.keys if not key.endswith("places.weight")]
        assert list(module.state_dict()) == keys

    def test_everything_is_a_parameter_or_remembered(self, case):
        module = case.build()
        names = {name for name, _ in module.named_parameters()}
        remembered = {name for name, _ in module.named_buffers()}
        assert names | remembered == set(case.keys)
        assert not remembered or case in FITTED

    def test_attributes_rebuild_the_module(self, case):
        module = case.build()
        options = arguments(module)
        for name, value in options.items():
            if name not in MODULES:
                value = list(value) if isinstance(value, tuple) else value
                assert json.loads(json.dumps(value)) == value
        twin = type(module)(**copy.deepcopy(options))
        assert arguments(twin).keys() == options.keys()
        assert all(arguments(twin)[n] == v for n, v in options.items() if n not in MODULES)
        shapes = {key: x.shape for key, x in module.state_dict().items()}
        assert {key: x.shape for key, x in twin.state_dict().items()} == shapes
        twin.load_state_dict(module.state_dict())
        batch = case.batch()
        assert torch.equal(case.call(twin, batch), case.call(module, batch))

    def test_repr_names_the_arguments(self, case):
        module = case.build()
        text = module.extra_repr()
        shown = [part.partition("=")[0] for part in text.split(", ") if "=" in part]
        assert shown
        assert text in repr(module)
        known = {*inspect.signature(type(module)).parameters, "modalities"}
        assert set(shown) <= known
        for name in shown:
            assert f"{name}={getattr(module, name)!r}" in text

    def test_copies_agree(self, case, tmp_path):
        module, loaded = case.build(), randomize(case.build(), seed=1)
        path = tmp_path / "model.safetensors"
        save_model(module, path)
        load_model(loaded, path)
        module.zero_grad()
        copies = (loaded, copy.deepcopy(module), pickle.loads(pickle.dumps(module)))
        batch = case.batch()
        expected = case.call(module, batch)
        for twin in copies:
            assert torch.equal(case.call(twin, batch), expected)

    def test_deep_copy_shares_nothing(self, case):
        module = case.build()
        twin, batch = copy.deepcopy(module), case.batch()
        expected = case.call(module, batch)
        randomize(twin, seed=1)
        assert torch.equal(case.call(module, batch), expected)

    def test_reference_is_let_go(self, case):
        module = case.build()
        case.call(module, case.batch())
        reference = weakref.ref(module)
        del module
        assert reference() is None


@each_case
class TestDevicesAndDtypes:
    def test_device_and_dtype_reach_every_parameter(self, case):
        module = case.make(device="meta", dtype=torch.float64)
        assert {(p.is_meta, p.dtype) for p in module.parameters()} <= {(True, torch.float64)}
        assert {buffer.is_meta for buffer in module.buffers()} <= {True}

    def test_output_has_the_dtype_of_the_parameters(self, case):
        for dtype in DTYPES:
            # Half precision does not overflow here; a loss is float32 or wider.
            wanted = torch.promote_types(dtype, torch.float32) if case.is_loss else dtype
            for given in [dtype] if case.is_loss else DTYPES:
                wanted = given if case in IMPUTERS else wanted  # copied, not computed
                output = case.call(built(case, dtype), case.batch(dtype=given))
                assert output.dtype == wanted
                assert output.isfinite().all()

    def test_autocast_changes_no_dtype(self, case):
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype=dtype):
                assert case.call(built(case, torch.float32), case.batch()).dtype == torch.float32

    def test_modalities_of_mixed_dtypes(self, case):
        if case in IMPUTERS:
            pytest.skip("each comes back in its own dtype: see test_imputer.py")
        module, batch = built(case), case.batch()
        dtypes = DTYPES[::-1] if case.is_loss else DTYPES
        mixed = {n: t.to(d) for (n, t), d in zip(batch.x.items(), dtypes, strict=False)}
        cast = {name: t.double() for name, t in mixed.items()}
        rest = (batch.valid, batch.target_length, batch.target_valid)
        output = case.call(module, Batch(mixed, *rest))
        assert output.dtype == torch.float64
        torch.testing.assert_close(output, case.call(module, Batch(cast, *rest)))

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("some", [True, False])
    def test_creates_nothing_on_a_default_device(self, case, training, some):  # needs no GPU
        if case.name == "ensemble-gru":
            pytest.skip("torch has no fake kernel of the user's GRU")
        with FakeTensorMode(), NeedNoDriver():
            module = case.make().train(training)
            on_gpu = functools.partial(torch.empty_like, device="cuda")
            state = {name: on_gpu(x) for name, x in module.state_dict().items()}
            for batch in gpu_batches(case, on_gpu, some):
                args, kwargs = case.arguments(batch)
                output = flat(torch.func.functional_call(module, state, args, kwargs))
                assert output.is_cuda


class NeedNoDriver(TorchFunctionMode):
    """Says ``x[...]`` and ``~x`` in other words: on a fake GPU they ask for a real driver."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ == "__invert__":
            return args[0].bitwise_not()
        if func.__name__ != "__getitem__":
            return func(*args, **(kwargs or {}))
        x, index = args
        index = index if isinstance(index, tuple) else (index,)
        rest = x.dim() - sum(i is not Ellipsis and i is not None for i in index)
        dim = 0
        for i in index:
            if i is Ellipsis:
                dim += rest
            elif isinstance(i, int):
                x = x.select(dim, i)
            else:
                first, last, step = i.indices(x.shape[dim])
                assert step == 1
                x = x.narrow(dim, first, max(last - first, 0))
                dim += 1
        return x


def gpu_batches(case, on_gpu, some):
    """Yields batches on another device: with or without ``valid``, and without one modality."""
    batch = case.batch(target="valid" if some else None)
    x = {name: on_gpu(t) for name, t in batch.x.items()}
    valid = {name: on_gpu(v) for name, v in batch.valid.items()} if some else None
    exists = None if batch.target_valid is None else on_gpu(batch.target_valid)
    batch = Batch(x, valid, batch.target_length, exists)
    yield batch
    if case.takes_mapping:
        for name in case.dims:
            yield batch.without(name)


class NoSync(TorchDispatchMode):
    """Refuses what would make the CPU wait for a GPU."""

    REFUSED = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in self.REFUSED:
            raise AssertionError(f"{func} reads data")
        indices = args[1] if func.overloadpacket.__name__ in ("index", "index_put_") else ()
        if any(i is not None and i.dtype == torch.bool for i in indices):
            raise AssertionError(f"{func} has an output whose size depends on data")
        return func(*args, **(kwargs or {}))


@each_case
def test_reads_no_data(case):
    module = built(case).train()
    for target in (None, "valid"):
        batch = case.batch(dtype=torch.float64, target=target)
        x = {name: t.requires_grad_() for name, t in batch.x.items()}
        batches = [Batch(x, v, batch.target_length, batch.target_valid)
                   for v in (batch.valid, None)]  # fmt: skip
        with NoSync():
            for given in batches:
                leaves = [*x.values(), *module.parameters()]
                output = weighted(case.call(module, given))
                torch.autograd.grad(output, leaves, materialize_grads=True)


def test_the_watch_on_reading_sees_what_it_should():
    x = torch.arange(3.0)
    for read in (lambda: x[0].item(), lambda: x[x > 1], lambda: bool((x > 1).any()), x.nonzero):
        with NoSync(), pytest.raises(AssertionError):
            read()


class Largest(TorchDispatchMode):
    """Watches how many elements the largest tensor has that is made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for x in torch.utils._pytree.tree_leaves(output):
            # What is expanded takes no memory.
            if isinstance(x, torch.Tensor) and 0 not in x.stride():
                self.elements = max(self.elements, x.numel())
        return output


@each_layer
def test_no_tensor_of_the_size_of_the_attention_matrix(case):
    size, length = 2, 64
    module, batch = built(case, torch.float32), case.batch(size, length)
    matrix = size * length * length  # of one head
    for training in (True, False):
        with Largest() as largest:
            case.call(module.train(training), batch)
        assert 0 < largest.elements < matrix


def test_the_watch_on_memory_sees_an_attention_matrix():
    case = FUSIONS[0]
    module, batch = built(case, torch.float32), case.batch(2, 64)
    with Largest() as largest:
        module.attention_weights(batch.x, valid=batch.valid)
    assert largest.elements >= 2 * 64 * 64


@each_layer
def test_dropout_is_off_in_eval_and_on_in_training(case):
    batch = case.batch()
    for option in ("dropout", "attention_dropout"):
        module = case.build(**{option: 0.5})
        first, second = (case.call(module.eval(), batch) for _ in range(2))
        assert torch.equal(first, second)
        torch.manual_seed(0)
        first, second = (case.call(module.train(), batch) for _ in range(2))
        assert not torch.equal(first, second)
        assert first.isfinite().all()


@each_layer
def test_activation_checkpoint_gives_the_same_gradients(case):
    module, batch = built(case).train(), case.batch(dtype=torch.float64)
    parameters = list(module.parameters())
    args, kwargs = case.arguments(batch)
    plain = torch.autograd.grad(weighted(module(*args, **kwargs)), parameters)
    output = checkpoint(module, *args, use_reentrant=False, **kwargs)
    for grad, wanted in zip(torch.autograd.grad(weighted(output), parameters), plain, strict=True):
        torch.testing.assert_close(grad, wanted)


@each_layer
def test_inputs_are_left_as_they_are(case):
    module, batch = built(case, torch.float32), case.batch(target="valid").put(torch.nan)
    before = copy.deepcopy(batch)
    case.call(module, batch)
    for name, x in before.x.items():
        assert torch.equal(x.nan_to_num(7.0), batch.x[name].nan_to_num(7.0))
        assert torch.equal(before.valid[name], batch.valid[name])


@each_layer
def test_learned_vectors_of_what_is_missing_start_at_zero(case):
    torch.manual_seed(0)
    module = case.make()
    names = ("missing", "gap", "places.weight")
    state = {key: x for key, x in module.state_dict().items() if key.endswith(names)}
    assert state
    assert all((x == 0).all() for x in state.values())


@each_layer
def test_reset_parameters_sets_every_parameter(case):
    # As FSDP2 does it: built on the meta device, made real without values, and then reset.
    module = case.make(device="meta").to_empty(device="cpu")
    for parameter in module.parameters():
        nn.init.constant_(parameter, torch.nan)
    for part in module.modules():
        if list(part.parameters(recurse=False)):
            part.reset_parameters()
    assert [name for name, p in module.named_parameters() if not p.isfinite().all()] == []
    case.call(module, case.batch())
