"""The laws of every layer: what is never read, what changes nothing, what stays finite."""

import copy
import functools

import pytest
import torch
from cases import (
    CASES,
    DIMS,
    ENSEMBLES,
    FITTED,
    FUSIONS,
    LAYERS,
    LOSSES,
    SIZES,
    TRANSLATORS,
    Batch,
    built,
    fusion,
    randomize,
    translator,
    weighted,
)
from hypothesis import given, settings, strategies as st
from safetensors.torch import load, save

from modimpute import CrossModalAttentionFusion, TranslatorEnsemble

EXAMPLES = 12
# In float64 rounding is far below, and every mistake far above.
close = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-10)
seeds = st.integers(0, 2**16)

each_case = pytest.mark.parametrize("case", [*CASES, *FITTED], ids=str)
each_layer = pytest.mark.parametrize("case", LAYERS, ids=str)
each_translator = pytest.mark.parametrize("case", TRANSLATORS, ids=str)
each_ensemble = pytest.mark.parametrize("case", ENSEMBLES, ids=str)
each_fusion = pytest.mark.parametrize("case", FUSIONS, ids=str)
each_by_name = pytest.mark.parametrize(
    "case", [*ENSEMBLES, *FUSIONS, *(c for c in FITTED if c.takes_mapping)], ids=str
)
aligned_pair = pytest.mark.parametrize(
    "case", [c for c in (*ENSEMBLES, *FUSIONS) if c.aligned and c.left_padding], ids=str
)


def law(test):
    """A property over random examples."""
    return settings(max_examples=EXAMPLES)(given(data=st.data())(test))


@st.composite
def batches(draw, case, *, min_size=0, min_length=0, dtype=torch.float64, target=None):
    """Draws a batch of any sizes and gaps; ``target``: how the output's steps are told."""
    least = max(min_length, case.min_length)
    return case.batch(
        draw(st.integers(min_size, 4)),
        {group: draw(st.integers(least, 7)) for group in case.all_groups},
        seed=draw(seeds),
        rate=draw(st.sampled_from([0.0, 0.3, 0.7, 1.0])),
        dtype=dtype,
        target=target or draw(st.sampled_from([None, "length", "valid"])),
    )


@st.composite
def paddings(draw, case):
    """Draws how many steps each group gets at the left and at the right."""
    left = 3 if case.left_padding else 0
    before = {group: draw(st.integers(0, left)) for group in case.all_groups}
    return before, {group: draw(st.integers(0, 3)) for group in case.all_groups}


def results(case, module, batch):
    """Returns the output and the gradients of the inputs and of all parameters."""
    x = {name: t.detach().clone().requires_grad_() for name, t in batch.x.items()}
    output = case.call(module, Batch(x, batch.valid, batch.target_length, batch.target_valid))
    leaves = [*x.values(), *module.parameters()]
    if not output.requires_grad:  # no steps, and nothing that learns
        return output, {name: torch.zeros_like(t) for name, t in x.items()}, ()
    grads = torch.autograd.grad(weighted(output), leaves, materialize_grads=True)
    return output.detach(), dict(zip(x, grads, strict=False)), grads[len(x) :]


def same(first, second):
    """Compares two answers of :func:`results`, bit for bit."""
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(grad, second[1][name]) for name, grad in first[1].items())
    assert all(torch.equal(*pair) for pair in zip(first[2], second[2], strict=True))


def gradients(module, output):
    """Returns the gradient of every parameter by its name, None where it took no part."""
    module.zero_grad(set_to_none=True)
    weighted(output).backward()
    grads = {name: p.grad for name, p in module.named_parameters()}
    module.zero_grad(set_to_none=True)
    return grads


@each_case
@law
def test_what_is_not_valid_is_never_read(case, data):
    # float32: there 1e30 squared would be infinite.
    module = built(case, torch.float32).train()
    batch = data.draw(batches(case, dtype=torch.float32))
    zeros = results(case, module, batch.put(0.0))
    for name, grad in zeros[1].items():
        assert (grad[~batch.valid[name]] == 0).all()
    assert zeros[0].isfinite().all()
    for junk in (torch.nan, torch.inf, -torch.inf, 1e30):
        same(results(case, module, batch.put(junk)), zeros)


@each_by_name
@law
def test_order_of_names_changes_nothing(case, data):
    module = built(case)
    batch = data.draw(batches(case))
    same(results(case, module, batch.reversed()), results(case, module, batch))


@pytest.mark.parametrize("case", [*ENSEMBLES, *FUSIONS], ids=str)
def test_order_of_constructor_names_changes_nothing(case):
    module, batch = built(case), case.batch(dtype=torch.float64)
    argument = "translators" if case in ENSEMBLES else "modality_dims"
    names = sorted(getattr(module, argument))
    twins = []
    for order in (names, names[::-1]):
        torch.manual_seed(1)
        given = {name: getattr(module, argument)[name] for name in order}
        options = {"target_dim": module.target_dim} if case in ENSEMBLES else {}
        if case in FUSIONS:
            options = {name: getattr(module, name) for name in ("pool", "aligned", "num_latents")}
        twins.append(type(module)(**{argument: given}, **options, **SIZES, dtype=torch.float64))
    first, second = (twin.state_dict() for twin in twins)
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)  # one seed, one module
    for twin in twins:
        twin.load_state_dict(module.state_dict())
        assert torch.equal(case.call(twin, batch), case.call(module, batch))


@pytest.mark.parametrize(
    "case", [*LAYERS, *FITTED, *(c for c in LOSSES if "none" in c.name)], ids=str
)
@law
def test_neighbours_change_nothing(case, data):
    module = built(case)
    batch = data.draw(batches(case, min_size=2))
    together = case.call(module, batch)
    for i in range(batch.size):
        close(case.call(module, batch.pick([i])), together[i : i + 1])


@each_case
@law
def test_padding_changes_nothing(case, data):
    # Each modality by its own amounts, where modalities do not share their steps.
    module = built(case)
    batch = data.draw(batches(case))
    before, after = data.draw(paddings(case))
    output = case.call(module, case.told(batch))
    padded = case.call(module, case.pad(batch, before, after))
    if not case.answers_steps:
        close(padded, output)  # no steps in the output
        return
    first = before["target"]
    last = first + output.shape[1]
    close(padded[:, first:last], output)
    assert (padded[:, :first] == 0).all()
    assert (padded[:, last:] == 0).all()


@pytest.mark.parametrize(
    "case", [c for c in (*LAYERS, *FITTED) if c.aligned and c.takes_target], ids=str
)
@law
def test_padding_needs_no_target_valid(case, data):
    # The default counts from the first step that any source has. A sample without any is
    # answered at all steps, and there are more of them now.
    module = built(case)
    batch = data.draw(batches(case, target="length"))
    before, after = data.draw(paddings(case))
    padded = case.pad(batch, before, after)
    rows = functools.reduce(torch.logical_or, batch.valid.values()).any(-1)
    output = case.call(module, batch)[rows]
    first = before["target"]
    answer = case.call(module, Batch(padded.x, padded.valid))[rows]
    close(answer[:, first : first + output.shape[1]], output)


@each_fusion
@law
def test_padding_changes_no_sequence(case, data):
    module = built(case)
    batch = data.draw(batches(case))
    before, after = data.draw(paddings(case))
    padded = case.pad(batch, before, after)
    sequences = module.attend(batch.x, valid=batch.valid)
    weights = module.attention_weights(batch.x, valid=batch.valid)
    padded_weights = module.attention_weights(padded.x, valid=padded.valid)
    for name, x in module.attend(padded.x, valid=padded.valid).items():
        first = before[case.groups[name]]
        steps = slice(first, first + sequences[name].shape[1])
        close(x[:, steps], sequences[name])
        assert (x[~padded.valid[name]] == 0).all()
        for other, share in padded_weights[name].items():
            torch.testing.assert_close(share[:, steps], weights[name][other])  # in float32
            assert (share[~padded.valid[name]] == 0).all()


@each_case
@law
def test_defaults_are_what_is_documented(case, data):
    # valid: all; target_valid: the source's own or the union, and all if unaligned.
    module = built(case)
    batch = data.draw(batches(case))
    kept = data.draw(st.lists(st.sampled_from(sorted(case.dims)), unique=True))
    some = {name: v for name, v in batch.valid.items() if name in kept}
    valid = (some or None) if case.takes_mapping else data.draw(st.sampled_from([None, some]))
    if not case.takes_mapping and len(some) < len(case.dims):
        valid = None
    batch = Batch(batch.x, valid, batch.target_length, batch.target_valid)
    close(case.call(module, batch), case.call(module, case.told(batch)))


@pytest.mark.parametrize("case", [c for c in LAYERS if c.takes_target], ids=str)
@law
def test_steps_that_do_not_exist_are_zero(case, data):
    module = built(case)
    batch = data.draw(batches(case, target="valid"))
    output = case.call(module, batch)
    assert (output[~batch.target_valid] == 0).all()
    if case in TRANSLATORS:
        rows = batch.valid["source"].any(-1, keepdim=True)
        assert (output[batch.target_valid & rows] != 0).all()
    else:
        assert (output[batch.target_valid] != 0).all()


@law
def test_aligned_translator_answers_each_step_alone(data):
    # target_valid chooses among the answers; only where it begins is counted from.
    case = TRANSLATORS[0]
    module = built(case)
    batch = data.draw(batches(case, min_length=1, target="valid"))
    batch.target_valid[:, 0] = True
    every = Batch(batch.x, batch.valid, None, torch.ones_like(batch.target_valid))
    chosen = case.call(module, every).masked_fill(~batch.target_valid.unsqueeze(-1), 0.0)
    close(case.call(module, batch), chosen)


@settings(max_examples=EXAMPLES)
@given(seeds, st.integers(1, 4), st.integers(0, 4), st.integers(0, 4))
def test_moving_the_valid_steps_moves_the_answers(seed, length, left, right):
    # A leading gap keeps its place: the target's steps stay where they are, and the steps that
    # are read move. Without learned places only differences of positions count.
    case = TRANSLATORS[0]
    module = copy.deepcopy(built(case))
    torch.nn.init.zeros_(module.places.weight)
    block = case.batch(2, length, seed=seed, dtype=torch.float64)
    exists = torch.ones(2, left + length + right, dtype=torch.bool)

    def answer(before, after):
        padded = case.pad(block, {"target": before}, {"target": after})
        return case.call(module, Batch(padded.x, padded.valid, None, exists))

    first, last = answer(0, left + right), answer(left + right, 0)
    moved = answer(left, right)
    close(moved[:, left:], first[:, : length + right])
    close(moved[:, : left + length], last[:, right:])


@aligned_pair
def test_a_leading_gap_keeps_its_place(case):
    # Audio comes two steps later than it did, while text stays: that is another answer.
    # (Read from its first valid step, or as if it were padding, it would be the same.)
    module = built(case)
    batch = case.batch(3, 6, seed=3, rate=1.0, dtype=torch.float64)
    early, late = (copy.deepcopy(batch) for _ in range(2))
    early.valid["audio"][:, 4:] = False
    late.valid["audio"][:, :2] = False
    late.x["audio"][:, 2:] = early.x["audio"][:, :4]
    difference = (case.call(module, late) - case.call(module, early)).abs()
    assert (difference.flatten(1).amax(-1) > 1e-3).all()


@pytest.mark.parametrize("case", [c for c in FUSIONS if not c.aligned], ids=str)
def test_unaligned_gaps_keep_their_place(case):
    # Between the first and the last valid step, time passes in a gap too.
    module = built(case)
    batch = case.batch(3, 6, seed=3, rate=1.0, dtype=torch.float64)
    whole, parted = (copy.deepcopy(batch) for _ in range(2))
    whole.valid["audio"][:, 4:] = False
    parted.valid["audio"][:, 1:3] = False
    parted.x["audio"][:, 3:] = whole.x["audio"][:, 1:4]
    difference = (case.call(module, parted) - case.call(module, whole)).abs()
    assert (difference.amax(-1) > 1e-3).all()


@each_by_name
@law
def test_missing_by_key_is_missing_by_row(case, data):
    module = built(case)
    batch = data.draw(batches(case))
    if data.draw(st.booleans()):
        batch = Batch(batch.x, None, batch.target_length, batch.target_valid)
    names = sorted(case.dims)
    absent = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=len(names) - 1))
    for training in (True, False):
        module.train(training)
        by_row = case.call(module, batch.missing(*absent))
        close(case.call(module, batch.without(*absent)), by_row)


@pytest.mark.parametrize(
    "case", [*ENSEMBLES, *FUSIONS, *(c for c in FITTED if c.takes_mapping and c.learns)], ids=str
)
def test_missing_by_key_has_the_gradients_of_missing_by_row(case):
    module = built(case).train()
    batch = case.batch(dtype=torch.float64, target="valid")
    for name in case.dims:
        by_key = gradients(module, case.call(module, batch.without(name)))
        by_row = gradients(module, case.call(module, batch.missing(name)))
        assert None not in by_key.values()
        for key, grad in by_row.items():
            close(by_key[key], grad)


def variants(case, batch):
    """Yields the ways in which modalities may be there or not."""
    yield "some", batch
    yield "all", Batch(batch.x, None, batch.target_length, batch.target_valid)
    yield "none", batch.missing(*case.dims)
    yield "no samples", batch.pick([])
    if case.takes_mapping:
        for name in case.dims:
            yield f"no {name}", batch.without(name)
            yield f"only {name}", batch.without(*(set(case.dims) - {name}))


@pytest.mark.parametrize("target", [None, "valid"])
@each_layer
def test_every_parameter_takes_part_in_training(case, target):
    # DistributedDataParallel and FSDP2 wait for a gradient of each.
    module = built(case).train()
    for kind, batch in variants(case, case.batch(dtype=torch.float64, target=target)):
        grads = gradients(module, case.call(module, batch))
        assert [name for name, grad in grads.items() if grad is None] == [], kind
        assert all(grad.isfinite().all() for grad in grads.values()), kind


@each_case
@law
def test_nothing_valid_is_finite_and_the_same_in_every_mode(case, data):
    module = built(case)
    batch = data.draw(batches(case)).missing(*case.dims).put(torch.nan)
    answer, by_input, by_parameter = results(case, module.train(), batch)
    for grad in (*by_input.values(), *by_parameter):
        assert grad.isfinite().all()
    assert answer.isfinite().all()
    for training in (True, False):
        module.train(training)
        close(case.call(module, batch).detach(), answer)
        with torch.no_grad():
            close(case.call(module, batch), answer)
        with torch.inference_mode():
            close(case.call(module, batch), answer)


@each_translator
@law
def test_translator_without_a_source_has_no_opinion(case, data):
    module = built(case)
    batch = data.draw(batches(case)).missing("source")
    assert (case.call(module, batch) == 0).all()


@each_ensemble
@law
def test_ensemble_without_a_source_has_one_learned_answer(case, data):
    module = built(case)
    batch = data.draw(batches(case, min_size=1, target="length")).missing(*case.dims)
    output = case.call(module, batch)
    close(output, output[:1].expand_as(output))
    assert (output != 0).all()


@each_fusion
@law
def test_fusion_fills_the_slot_of_a_missing_modality_with_its_vector(case, data):
    module = built(case)
    batch = data.draw(batches(case))
    absent = data.draw(st.lists(st.sampled_from(sorted(DIMS)), unique=True, min_size=1))
    output = case.call(module, batch.missing(*absent)).unflatten(-1, (3, -1))
    state = module.state_dict()
    for name in absent:
        slot = output[:, module.modalities.index(name)]
        assert torch.equal(slot, state[f"towers.@{name}.missing"].expand_as(slot))


@pytest.mark.parametrize("name", ["aaa", "between", "zzz"])
@pytest.mark.parametrize("pool", ["mean", "last", "attention"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("num_latents", [0, 3])
def test_a_larger_fusion_loads_a_smaller_one(name, pool, aligned, num_latents):
    options = {"pool": pool, "aligned": aligned, "num_latents": num_latents}
    options["dtype"] = torch.float64
    small = randomize(fusion(**options))
    large = CrossModalAttentionFusion({name: 5, **DIMS}, **SIZES, **options)
    loaded = large.load_state_dict(small.state_dict(), strict=False)
    assert loaded.unexpected_keys == []
    assert loaded.missing_keys
    assert all(key.startswith(f"towers.@{name}.") for key in loaded.missing_keys)
    case = FUSIONS[int(aligned)]
    batch = case.batch(dtype=torch.float64)
    slots = large(batch.x, valid=batch.valid).unflatten(-1, (4, -1))
    new = large.modalities.index(name)
    old = [i for i in range(4) if i != new]
    close(slots[:, old].flatten(1), small(batch.x, valid=batch.valid))
    assert (slots[:, new] == 0).all()  # learned, zero at first


@pytest.mark.parametrize("name", ["aaa", "between", "zzz"])
@pytest.mark.parametrize("training", [True, False])
@each_ensemble
def test_a_larger_ensemble_loads_a_smaller_one(case, training, name):
    small = built(case).train(training)
    new = translator(5, aligned=case.aligned, dtype=torch.float64)
    members = {name: new, **copy.deepcopy(dict(small.translators))}
    large = TranslatorEnsemble(members, small.target_dim, **SIZES, dtype=torch.float64)
    loaded = large.train(training).load_state_dict(small.state_dict(), strict=False)
    assert loaded.unexpected_keys == []
    prefixes = (f"translators.@{name}.", f"inputs.@{name}.")
    assert loaded.missing_keys
    assert all(key.startswith(prefixes) for key in loaded.missing_keys)
    batch = case.batch(dtype=torch.float64)
    close(case.call(large, batch), case.call(small, batch))


NAMES = ["keys", "type", "a.b", "a%2Eb", "training", "forward", "ä b", "@x", "%", ".", " "]


@settings(max_examples=10)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=4))
def test_any_text_is_a_modality_name(names):
    names = sorted({*NAMES, *names})
    sizes = {"model_dim": 2, "num_heads": 1, "num_layers": 1, "feedforward_dim": 1}
    module = CrossModalAttentionFusion(dict.fromkeys(names, 1), **sizes, dropout=0.0)
    state = load(save(randomize(module).state_dict()))  # safetensors, without a file
    twin = CrossModalAttentionFusion(dict.fromkeys(names, 1), **sizes, dropout=0.0)
    twin.load_state_dict(state)
    assert module.modalities == tuple(names)
    g = torch.Generator().manual_seed(0)
    x = {name: torch.randn(2, 2, 1, generator=g) for name in names}
    assert torch.equal(module(x), twin(x))
    assert set(module.attend(x)) == set(names)
    for name in names:  # each has weights of its own
        slot = module.modalities.index(name)
        without = module({n: t for n, t in x.items() if n != name}).unflatten(-1, (-1, 2))
        missing = [key for key in module.state_dict() if key.endswith("missing")][slot]
        assert torch.equal(without[:, slot], state[missing].expand(2, 2))


@pytest.mark.parametrize("name", NAMES)
def test_an_ensemble_takes_any_name(name):
    def build():
        members = {n: translator(3) for n in (name, "text")}
        return randomize(TranslatorEnsemble(members, 2, **SIZES))

    module, twin = build(), build()
    twin.load_state_dict(load(save(module.state_dict())))
    x = {n: torch.randn(2, 4, 3) for n in (name, "text")}
    valid = {name: torch.rand(2, 4) < 0.5}
    assert module.modalities == tuple(sorted((name, "text")))
    assert torch.equal(module(x, valid=valid), twin(x, valid=valid))
    assert set(module.translate(x)) == {name, "text"}


@each_ensemble
@law
def test_forward_combines_what_is_translated(case, data):
    module = built(case).eval()
    batch = data.draw(batches(case, min_length=1))  # no steps: nothing to combine
    batch = Batch(batch.x, None, batch.target_length, batch.target_valid)
    args, kwargs = case.arguments(batch)
    translations = module.translate(*args, **kwargs)
    (sources,) = args
    combined = module.combine(translations, target_valid=batch.target_valid, sources=sources)
    close(case.call(module, batch), combined)


@each_layer
def test_gradients_are_those_of_the_output(case):
    module = built(case).train()
    batch = case.batch(2, 3, dtype=torch.float64, rate=0.7, target="valid")
    names = list(batch.x)

    def function(*tensors):
        x = dict(zip(names, tensors, strict=True))
        return case.call(module, Batch(x, batch.valid, None, batch.target_valid))

    assert torch.autograd.gradcheck(function, [t.requires_grad_() for t in batch.x.values()])
