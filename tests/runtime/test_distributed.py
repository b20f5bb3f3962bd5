"""Checkpoints by torch.distributed.checkpoint, and training on two processes."""

from __future__ import annotations

import copy
import dataclasses
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor, init_device_mesh

from gaugec.runtime import DDCAdamW, Gauge
from runtime import handmade
from runtime.test_state import SETTINGS, llama, train
from runtime.two_processes import EVERY, KINDS, RESUMED, SAVED, STEPS, Run

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


# --- two processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave behind: see `two_processes`."""
    path = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = "import sys; from runtime.two_processes import main; main(int(sys.argv[1]), sys.argv[2])"
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(rank), str(path)], env=environment, cwd=path)
        for rank in (0, 1)
    ]
    assert [process.wait() for process in started] == [0, 0]
    return path


def ends(folder: Path, name: str) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{name}.{rank}.pt", weights_only=True) for rank in (0, 1)]


def gap(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """The norm of the difference over the norm, of the worst tensor."""
    assert one.keys() == two.keys()
    return max(float((x - two[name]).norm() / x.norm()) for name, x in one.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_take_the_steps_of_one(folder: Path, kind: str) -> None:
    """In shards, too: uneven ones, and those that cut a head; over two pins."""
    alone = Run(kind).train(range(STEPS)).end()
    first, second = ends(folder, kind)
    assert first["messages"] == second["messages"] and first["norms"] == second["norms"]
    for part in ("params", "state"):
        assert all(torch.equal(x, second[part][name]) for name, x in first[part].items())
    single = kind in ("adamw", "sgd", "muon")  # float32: by itself as far from float64
    assert gap(alone["params"], first["params"]) <= (1e-6 if single else 1e-13)
    assert gap(alone["state"], first["state"]) <= (5e-6 if single else 1e-12)
    assert first["norms"] == pytest.approx(alone["norms"], rel=1e-6 if single else 1e-12)
    assert max(alone["norms"]) > 0.5 or kind in ("mixed", "ddp")  # they were clipped


@pytest.mark.slow
def test_messages_of_a_step_in_shards(folder: Path) -> None:
    """None; one all-reduce where heads are cut; one all-gather a lot of matrices, or a batch of places in a pin."""
    gathers, lots = {"adamw": 3, "sgd": 3, "muon": 3, "aligned": 3, "mixed": 1}, 4
    for kind, places in gathers.items():
        step = {"clipping": 1, **({"allreduce": 1} if kind == "adamw" else {})}
        step |= {"allgather_base": lots} if kind == "muon" else {}
        pin = {**step, "allgather_base": step.get("allgather_base", 0) + places}
        assert ends(folder, kind)[0]["messages"] == {1: step, 2: step, EVERY: pin}


@pytest.mark.slow
@pytest.mark.parametrize("kind", RESUMED)
def test_shards_are_resumed_on_two_processes_and_on_one(folder: Path, kind: str) -> None:
    """Between two pins: to the bit on as many processes."""
    before = ends(folder, kind)[0]
    for again in ends(folder, f"{kind} again"):
        for part in ("params", "state"):
            assert all(torch.equal(x, again[part][name]) for name, x in before[part].items())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # it says that one process loads
        alone = Run(kind).resume(str(folder / kind)).train(range(SAVED, STEPS)).end()
    assert gap(before["params"], alone["params"]) <= (1e-13 if kind == "aligned" else 1e-6)
    assert gap(before["state"], alone["state"]) <= (1e-12 if kind == "aligned" else 5e-6)


# --- one process


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def placed(p: Tensor, *placements: Placement) -> nn.Parameter:
    return nn.Parameter(distribute_tensor(p.detach(), init_device_mesh("cpu", (1,) * len(placements)), placements))


@pytest.mark.usefixtures("alone")
def test_dtensors_of_one_process_step_as_plain_ones_do(compiled: Gauge) -> None:
    """Sharded by rows, whole, and plain side by side, to the bit; an AdamW checkpoint is taken over."""
    ways: list[Any] = [lambda p: placed(p, Shard(0)), lambda p: placed(p, Replicate()), nn.Parameter]
    models, optimizers = [llama(), llama()], []
    for number, module in enumerate(models[1].modules()):
        for name, p in list(module.named_parameters(recurse=False)):
            setattr(module, name, ways[number % 3](p))
    for model in models:
        old = torch.optim.AdamW(model.named_parameters(), lr=1e-3, foreach=False)
        slopes(model, 0)
        old.step()
        optimizers.append(DDCAdamW(model.named_parameters(), compiled, **SETTINGS))
        optimizers[-1].load_state_dict(old.state_dict())
    for number in range(1, 6):
        norms = []
        for model, optimizer in zip(models, optimizers):
            slopes(model, number)
            norms.append(float(optimizer.clip_grad_norm_(0.5)))
            optimizer.step()
        assert norms[0] == pytest.approx(norms[1], rel=1e-14)
    first, second = (dict(model.named_parameters()) for model in models)
    assert all(torch.allclose(p, whole(second[name]), rtol=1e-12, atol=1e-14) for name, p in first.items())


def whole(p: Tensor) -> Tensor:
    return p.full_tensor() if isinstance(p, DTensor) else p


def slopes(model: nn.Module, number: int) -> None:
    """Gradients at the values, placed as the parameters are; of whole ones as sums that are still to be taken."""
    params = dict(model.named_parameters())
    values = {name: whole(p).detach().requires_grad_() for name, p in params.items()}
    torch.func.functional_call(model, values, (handmade.tokens(number),)).backward()
    for name, x in values.items():
        p = params[name]
        p.grad = x.grad
        if isinstance(p, DTensor):
            places = [Partial() if each.is_replicate() else each for each in p.placements]
            p.grad = DTensor.from_local(x.grad, p.device_mesh, places)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, Any], str]] = {
    "columns": (
        lambda p: placed(p, Shard(1)),
        {},
        "layers.0.q.weight is placed by S(1) on a mesh of (1,): parameters are stepped that are sharded by rows, "
        "Shard(0), or whole, Replicate(), on a mesh of one axis, as fully_shard places them. Place it so, or use DDP",
    ),
    "two axes": (
        lambda p: placed(p, Replicate(), Shard(0)),
        {},
        "layers.0.q.weight is placed by R, S(0) on a mesh of (1, 1): parameters are stepped that are sharded by rows, "
        "Shard(0), or whole, Replicate(), on a mesh of one axis, as fully_shard places them. Place it so, or use DDP",
    ),
    "offloaded": (
        lambda p: DTensor.from_local(p.detach().to("meta"), init_device_mesh("cpu", (1,)), [Shard(0)]),
        {},
        "layers.0.q.weight is on meta, and its mesh is of cpu devices: what is gathered of it would go through other "
        "memory. Keep parameters on the mesh, without an offload policy, and make the optimizer when they are there",
    ),
    "horizontal": (
        lambda p: placed(p, Shard(0)),
        {"orbit": "horizontal"},
        "orbit='horizontal' projects steps of whole parameters, and layers.0.q.weight are DTensors, of which a process "
        "has a part. Use orbit='pinned', or DDP",
    ),
    "compiled": (
        lambda p: placed(p, Shard(0)),
        {"compile": True},
        "compile=True fuses steps of whole parameters, and layers.0.q.weight are DTensors, of which a process has a "
        "part. Use compile=False, or DDP",
    ),
}


@pytest.mark.usefixtures("alone")
def test_invertible_bases_are_not_stepped_in_shards() -> None:
    model = handmade.Llama()
    values = [each for each in handmade.llama_sites() if each.gauge == "value_rotation"]
    gauge = handmade.compiled(model, [dataclasses.replace(each, group="invertible") for each in values])
    for each in (model.layers[1].v, model.layers[1].o):
        each.weight = placed(each.weight, Shard(0))
    with pytest.raises(ValueError, match=r"^invertible bases are stepped in whole matrices, and some at 0\.1 \(value"):
        DDCAdamW(model.named_parameters(), gauge)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("case", REFUSED)
def test_what_no_step_is_written_for_is_refused(compiled: Gauge, case: str) -> None:
    place, settings, message = REFUSED[case]
    pairs = [(name, place(p) if name == "layers.0.q.weight" else p) for name, p in llama().named_parameters()]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        DDCAdamW(pairs, compiled, **settings)
