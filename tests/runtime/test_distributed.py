"""Checkpoints by torch.distributed.checkpoint, and training on two processes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)

from gaugec.runtime import DDCAdamW, Gauge
from runtime import handmade
from runtime.test_state import SETTINGS, llama, train

ORBITS = ("pinned", "horizontal")


@pytest.fixture(scope="module")
def compiled() -> Gauge:
    torch.manual_seed(0)
    return handmade.compiled(handmade.Llama(), handmade.llama_sites())


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters()))


@pytest.mark.parametrize("orbit", ORBITS)
@pytest.mark.parametrize("flat", [False, True])
def test_distributed_checkpoints_resume_to_the_bit(compiled: Gauge, orbit: str, flat: bool) -> None:
    """From step 4, in the middle of an interval of 3, into a model and an optimizer that have not stepped."""
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    model = llama()
    optimizer = DDCAdamW(model.named_parameters(), compiled, orbit=orbit, **SETTINGS)
    train(model, optimizer, range(4))
    weights, saved = copy.deepcopy(get_state_dict(model, optimizer, options=options))
    other = llama()
    resumed = DDCAdamW(other.named_parameters(), compiled, orbit=orbit, **SETTINGS)
    set_state_dict(other, resumed, model_state_dict=weights, optim_state_dict=saved, options=options)
    assert train(model, optimizer, range(4, 9)) == train(other, resumed, range(4, 9))
    assert same(model, other)


@pytest.mark.parametrize("flat", [False, True])
def test_saving_does_not_change_the_run(compiled: Gauge, flat: bool) -> None:
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    models = [llama(), llama()]
    for model, saves in zip(models, (True, False)):
        optimizer = DDCAdamW(model.named_parameters(), compiled, **SETTINGS)
        for number in range(6):
            train(model, optimizer, range(number, number + 1))
            optimizer.zero_grad()  # no gradients: torch steps once with zeros where it thinks that there is no state
            if saves:
                saved = get_optimizer_state_dict(model, optimizer, options=options)
                if number == 3:
                    set_optimizer_state_dict(model, optimizer, saved, options=options)
        assert {batch.step for batch in optimizer.batches} == {6}
    assert same(*models)


PROCESS = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from gaugec.runtime import DDCAdamW
from runtime import handmade
from runtime.test_state import SETTINGS, llama, train

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
torch.manual_seed(0)
model = handmade.MLP().double()
gauge = handmade.compiled(model, handmade.mlp_sites())
both = DistributedDataParallel(model)
optimizer = DDCAdamW(both.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, frame_every=3)
for number in range(8):
    optimizer.zero_grad()
    both(*(x[8 * rank : 8 * rank + 8] for x in handmade.numbers(number))).backward()
    optimizer.clip_grad_norm_(1.0)
    optimizer.step()
torch.save(model.state_dict(), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)], env=environment) for rank in (0, 1)
    ]
    torch.manual_seed(0)
    model = handmade.MLP().double()
    gauge = handmade.compiled(model, handmade.mlp_sites())
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, frame_every=3)
    for number in range(8):
        optimizer.zero_grad()
        model(*handmade.numbers(number)).backward()
        optimizer.clip_grad_norm_(1.0)
        optimizer.step()
    assert [process.wait() for process in started] == [0, 0]
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, p in model.named_parameters():
        assert torch.equal(one[name], two[name])
        assert torch.allclose(one[name], p, rtol=1e-10, atol=1e-12), name
