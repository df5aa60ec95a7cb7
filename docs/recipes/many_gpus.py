"""
Train on many GPUs
==================

``DistributedDataParallel`` takes these layers as they are. This page runs two processes on the CPU
(``gloo``), which is what can be shown anywhere; no GPU was used. On GPUs the program is the same,
with ``nccl`` and ``.to(local_rank)``:

.. code-block:: sh

   torchrun --standalone --nproc-per-node 2 many_gpus.py

Two rules:

- **Train through** ``forward``. The wrapper sees nothing else: ``attend``, ``translate`` and
  ``combine`` are for use *inside* a module of your own.
- **All names in every batch**, and what is missing as rows of ``False``, as
  :func:`~modimpute.collate_modalities` makes them. Every parameter then takes part in every step,
  whatever a process lacks: no ``find_unused_parameters``, and nobody waits.
"""

import os
import subprocess
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from modimpute import ConsistencyLoss, ModalityTranslator, TranslatorEnsemble

STEPS = 60

# %%
# What each process does
# ----------------------
#
# It has its own half of the samples. The first one has never any vision: still both end with the
# same weights.


def work():
    dist.init_process_group("gloo")  # on GPUs: "nccl"
    rank = dist.get_rank()
    torch.set_num_threads(1)

    torch.manual_seed(
        0
    )  # the same weights everywhere (DDP would send those of rank 0 anyway)
    translators = {
        name: ModalityTranslator(4, 16, model_dim=16) for name in ("text", "vision")
    }
    ensemble = TranslatorEnsemble(
        translators, target_dim=3, model_dim=16, num_layers=1
    )
    model = DistributedDataParallel(ensemble)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    consistency = ConsistencyLoss()

    torch.manual_seed(1 + rank)  # other samples, other dropout
    for step in range(STEPS):
        sources = {name: torch.randn(32, 8, 4) for name in ("text", "vision")}
        audio = torch.tanh(sources["text"][..., :3] + sources["vision"][..., 1:])
        valid = {name: torch.ones(32, 8, dtype=torch.bool) for name in sources}
        if rank == 0:
            sources["vision"], valid["vision"][:] = torch.zeros(32, 8, 4), False
        loss = consistency(model(sources, valid=valid), audio)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            report = loss.detach().clone()
            dist.all_reduce(report)
            if rank == 0:
                print(
                    f"step {step}: loss {report.item() / dist.get_world_size():.3f}",
                    flush=True,
                )

    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    everyone = [torch.empty_like(weights) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, weights)
    assert all(torch.equal(weights, other) for other in everyone)
    if rank == 0:
        print(
            "processes:",
            dist.get_world_size(),
            "- all with the same weights",
            flush=True,
        )
    dist.barrier()
    dist.destroy_process_group()


# %%
# ``torchrun`` starts this file once for each process, with ``RANK`` set. Started without it, the
# file calls ``torchrun`` itself, so that ``python many_gpus.py`` shows the whole thing. The last
# line is what counts, not the exit status: threads of ``gloo`` outlive a model wrapped for
# ``DistributedDataParallel`` and can, rarely, abort a process that has finished and is leaving.

if "RANK" in os.environ:
    work()
else:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node=2", "many_gpus.py"]
    quiet = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, env=quiet, capture_output=True, text=True, check=False
    )
    print(result.stdout)
    assert "processes: 2 - all with the same weights" in result.stdout, result.stderr

# %%
# With ``accelerate launch`` there is less to write: :doc:`loop_accelerate`. Losses that are means
# weigh the processes alike; where one has far fewer valid steps than another, divide sums by the
# count of all processes.
