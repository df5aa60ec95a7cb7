"""Times side by side: calls take turns in one process, and what counts is the ratio of a turn."""

import contextlib
import random
import statistics
import time

import torch

LEAST, MOST = 5, 400  # turns


def compare(calls, seconds, device="cpu"):
    """Returns for each name ``(median, lower, upper quartile)`` of its time over the first one's.

    Each turn has an order of its own, so that each call follows each other one equally often: what
    stands in the cache is the last one's. On the CPU what counts is the time that the process
    computed, on CUDA the time between two events.
    """
    clock = _cuda_clock if torch.device(device).type == "cuda" else _cpu_clock
    names = list(calls)
    for name in names:
        calls[name]()
        calls[name]()
    turns, start, drawn = [], time.monotonic(), random.Random(0)
    while len(turns) < LEAST or (time.monotonic() - start < seconds and len(turns) < MOST):
        order = drawn.sample(names, len(names))
        turns.append({name: clock(calls[name]) for name in order})
    first = names[0]
    result = {}
    for name in names:
        ratios = [turn[name] / turn[first] for turn in turns]
        low, _, high = statistics.quantiles(ratios, n=4)
        result[name] = (statistics.median(ratios), low, high)
    return result, len(turns)


def _cpu_clock(call):
    start = time.process_time()
    call()
    return time.process_time() - start


def _cuda_clock(call):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def forward(module, *args, **kwargs):
    """Returns a call of the module without gradients; it is put into eval mode."""
    module.eval()

    def call():
        with torch.no_grad():
            module(*args, **kwargs)

    return call


def training_step(module, *args, **kwargs):
    """Returns a call of forward and backward; the module is put into training mode."""
    module.train()

    def call():
        module.zero_grad(set_to_none=True)
        total(module(*args, **kwargs)).backward()

    return call


def total(output):
    if isinstance(output, dict):
        return sum(x.sum() for x in output.values())
    return output.sum()


def saved_bytes(module, *args, **kwargs):
    """Returns how many bytes autograd keeps for the backward pass, parameters and inputs aside."""
    known = {x.untyped_storage().data_ptr() for x in module.parameters()}
    known |= {x.untyped_storage().data_ptr() for x in _tensors((args, kwargs))}
    saved = {}

    def pack(x):
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return x

    module.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = module(*args, **kwargs)
    del output
    return sum(saved.values())


def _tensors(nested):
    if isinstance(nested, torch.Tensor):
        yield nested
    elif isinstance(nested, dict):
        yield from _tensors(list(nested.values()))
    elif isinstance(nested, list | tuple):
        for x in nested:
            yield from _tensors(x)


@contextlib.contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def onednn(on):
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(on and before)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)
