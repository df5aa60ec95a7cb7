"""Two processes on the CPU, one of which lacks a modality: neither waits, both learn the same."""

import itertools
import sys
import time
from contextlib import suppress

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from modimpute import (
    CrossModalAttentionFusion,
    KernelTranslator,
    ModalityImputer,
    ModalityTranslator,
    RetrievalTranslator,
    TranslatorEnsemble,
    consistency_loss,
)

LIMIT = 100.0  # seconds: a process that waits for the other one for ever is ended
SIZES = {"model_dim": 8, "num_heads": 2, "num_layers": 1, "dropout": 0.0}
STEPS = 3
KINDS = ("ensemble", "unaligned", "nested", "fusion", "imputer", "memories")
WAYS = ("ddp", "fsdp", "fsdp of a part")


def build(kind):
    torch.manual_seed(0)
    if kind == "fusion":
        return CrossModalAttentionFusion({"a": 3, "b": 2}, pool="attention", **SIZES, num_places=3)
    if kind == "imputer":
        return ModalityImputer({"a": 3, "b": 2}, num_slots=3, **SIZES, num_places=3)
    translators = {
        "a": ModalityTranslator(3, 4, **SIZES, aligned=kind in ("ensemble", "memories")),
        "b": ModalityTranslator(2, 4, **SIZES, aligned=kind in ("ensemble", "memories")),
    }
    if kind == "memories":
        dims = {"a": 3, "b": 2}
        told = {name: torch.randn(6, 4, dim) for name, dim in dims.items()}
        view = {"memory_size": 6, "source_places": 4, "target_places": 4}
        retrieval = RetrievalTranslator(dims, 4, key_dim=4, hidden_dim=4, **view)
        kernel = KernelTranslator(dims, 4, steps=2, **view)
        translators["retrieval"] = retrieval.remember(told, torch.randn(6, 4, 4))
        translators["kernel"] = kernel.fit(told, torch.randn(6, 4, 4))
    if kind == "nested":
        translators = {
            "ab": TranslatorEnsemble(translators, 4, **SIZES),
            "c": ModalityTranslator(2, 4, **SIZES, num_places=3),
        }
    return TranslatorEnsemble(translators, 2, **SIZES)


def make_inputs(kind, step, rank):
    """In each step one of the ranks lacks something: by key, by row, or whole sources by row."""
    g = torch.Generator().manual_seed(10 * step + rank)
    dims = {"a": 3, "b": 2} | ({"c": 2} if kind == "nested" else {})
    batch = {name: torch.randn(2, 4, dim, generator=g) for name, dim in dims.items()}
    valid = {name: torch.ones(2, 4, dtype=torch.bool) for name in dims}
    if step == 0 and rank == 1:
        for name in ("a", "b") if kind == "nested" else ("a",):  # absent by key, for the batch
            del batch[name], valid[name]
    if step == 1 and rank == 0:
        valid["b"][:] = False  # absent by row, in all rows
    if step == 2:
        valid["a"][rank] = False  # in one row
        valid["b"][rank, 2:] = False
    options = {} if kind in ("fusion", "ensemble") else {"target_length": 4}
    if kind == "imputer":
        options = {"reconstruct": True}
        if step == 2:  # one rank has nothing to fill
            options = {"rows": torch.arange(1 - rank)}
    return batch, {"valid": valid, **options}


def loss_of(module, kind, step, rank):
    batch, options = make_inputs(kind, step, rank)
    out = module(batch, **options)
    if kind == "imputer":
        out = torch.cat([out[name].flatten(1) for name in sorted(out)], -1)
    return consistency_loss(out.view(out.shape[0], -1, 2), torch.ones(2, out[0].numel() // 2, 2))


def train(module, losses_of):
    """A few steps; returns the weights after them."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for step in range(STEPS):
        optimizer.zero_grad()
        losses = losses_of(step)
        (sum(losses) / len(losses)).backward()
        optimizer.step()


def shard(module):
    for part in module.modules():
        if isinstance(part, ModalityTranslator):
            fully_shard(part)
    return fully_shard(module)


def whole(x):
    return (x.full_tensor() if hasattr(x, "full_tensor") else x).detach()


class Model(nn.Module):
    """A user's own model, of which the layer is one part."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, batch, **options):
        return self.layer(batch, **options)


def work(rank, folder):
    torch.set_num_threads(1)
    init = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    results = {}
    for kind, way in itertools.product(KINDS, WAYS):
        module = build(kind)
        if way == "ddp":
            module = DistributedDataParallel(module)
        elif way == "fsdp":
            module = shard(module)
        else:
            module = Model(module)
            shard(module.layer)
            fully_shard(module)
        train(module, lambda step, m=module, k=kind: [loss_of(m, k, step, rank)])
        state = {n.removeprefix("module.").removeprefix("layer."): whole(x)
                 for n, x in module.named_parameters()}  # fmt: skip
        results[kind, way] = state
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def run_both(folder):
    """Returns the weights after training, of both ranks, by kind of layer and way."""
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":  # needs no name of this machine that resolves
            patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        context = mp.start_processes(
            work, (str(folder),), nprocs=2, join=False, start_method="spawn"
        )
        end = time.monotonic() + LIMIT
        try:
            while not context.join(timeout=1.0):
                assert time.monotonic() < end, "the two processes wait for each other"
        finally:
            for process in context.processes:
                with suppress(ProcessLookupError):
                    process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_training_is_that_of_one_process(tmp_path):
    # One test, not one for each case: to start the processes takes longer than all of them.
    results = run_both(tmp_path)
    for kind, way in itertools.product(KINDS, WAYS):
        one = build(kind)
        start = {name: x.detach().clone() for name, x in one.named_parameters()}
        train(one, lambda step, m=one, k=kind: [loss_of(m, k, step, rank) for rank in range(2)])
        first, second = (result[kind, way] for result in results)
        assert list(first) == list(second) == list(start)
        for name, x in one.named_parameters():
            assert torch.equal(first[name], second[name]), (kind, way, name)
            torch.testing.assert_close(
                first[name],
                x.detach(),
                atol=1e-5,
                rtol=1e-4,
                msg=lambda text, case=(kind, way, name): f"{case}: {text}",
            )
        moved = [name for name, x in first.items() if not torch.equal(x, start[name])]
        assert len(moved) > len(start) // 2, (kind, way)
