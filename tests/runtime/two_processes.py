"""What two processes do together for `test_distributed`: `python -m runtime.two_processes RANK FOLDER`.

A run of a name is made by `trained`, in one process or in two; what the two have at the end is saved as NAME.pt.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel

from gaugec.runtime import DDCSGD, DDCAdamW
from gaugec.runtime.optimizer import GaugeOptimizer
from runtime import handmade

STEPS, EVERY, SAVED = 20, 7, 9  # three frames or pins; saved between two of them


class Straddling(handmade.Shape):
    """Sizes of which two processes have no whole halves: one head of queries, keys and values is cut in two."""

    units, heads, kv = 13, 3, 3


class Plain(handmade.Shape):
    """Whole heads on each process; the vocabulary is still odd."""


class Run:
    """A model, its optimizer and its batches; shared: whether two processes take half of every batch each.

    kind: "adamw" and "sgd" of a Llama, "aligned" where no head is cut, "mixed" of an MLP that is sharded in part, "ddp".
    """

    def __init__(self, kind: str, rank: int | None = None) -> None:
        self.kind, self.rank = kind, rank
        torch.manual_seed(0)
        self.model, gauge = self._made()
        self.wrapped: nn.Module = self.model
        if rank is not None:
            self._divide()
        settings: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1, "frame_every": EVERY}
        form = DDCSGD if kind == "sgd" else DDCAdamW
        self.optimizer: GaugeOptimizer = form(self.wrapped.named_parameters(), gauge, **settings)
        self.norms: list[float] = []
        self.messages: list[dict[str, int]] = []

    def _made(self) -> tuple[nn.Module, Any]:
        if self.kind in ("mixed", "ddp"):
            model: nn.Module = handmade.MLP()
            return model, handmade.compiled(model, handmade.mlp_sites())
        size = Plain if self.kind == "aligned" else Straddling
        plus = float(self.kind == "sgd")
        model = handmade.Llama(size, plus)
        return model, handmade.compiled(model, handmade.llama_sites(size, plus))

    def _divide(self) -> None:
        if self.kind == "ddp":
            self.wrapped = DistributedDataParallel(self.model)
            return
        parts = self.model.maps[::2] if self.kind == "mixed" else self.model.layers
        for part in parts:
            fully_shard(part)
        if self.kind != "mixed":
            fully_shard(self.model)

    def _batch(self, number: int) -> tuple[Tensor, ...]:
        if self.kind in ("mixed", "ddp"):
            return tuple(x.float() for x in handmade.numbers(number))
        generator = torch.Generator().manual_seed(number)
        return (torch.randint(handmade.Shape.vocab, (4, 9), generator=generator),)

    def _slopes(self, number: int) -> None:
        self.optimizer.zero_grad()
        halves = [tuple(x.chunk(2)[i] for x in self._batch(number)) for i in (0, 1)]
        if self.rank is None:
            (sum(self.wrapped(*half) for half in halves) / 2).backward()
            return
        self.wrapped(*halves[self.rank]).backward()
        for p in self.model.parameters():
            if self.kind == "mixed" and not isinstance(p, DTensor):
                dist.all_reduce(p.grad, dist.ReduceOp.AVG if dist.get_backend() != "gloo" else dist.ReduceOp.SUM)
                p.grad /= 2

    def train(self, steps: range, clip: bool = True) -> Run:
        for number in steps:
            self._slopes(number)
            watched = CommDebugMode() if self.rank is not None and self.kind != "ddp" else nullcontext()
            with watched as clipping:
                self.norms.append(float(self.optimizer.clip_grad_norm_(0.5)))
            watched = CommDebugMode() if clipping is not None else nullcontext()
            with watched as stepping:
                self.optimizer.step()
            if stepping is not None:
                counts = {str(name).split(".")[-1]: n for name, n in stepping.get_comm_counts().items()}
                self.messages.append({**counts, "clipping": clipping.get_total_counts()})
        return self

    def end(self) -> dict[str, Any]:
        """Parameters and state, gathered; norms; messages of every step."""
        names = {name.removeprefix("module."): p for name, p in self.wrapped.named_parameters()}
        state = {
            f"{name}: {entry}": _whole(x)
            for name, p in names.items()
            for entry, x in self.optimizer.state[p].items()
            if entry != "gauge"
        }
        params = {name: _whole(p.detach()) for name, p in names.items()}
        return {"params": params, "state": state, "norms": self.norms, "messages": self.messages}

    def states(self) -> dict[str, Any]:
        """For torch.distributed.checkpoint."""
        weights, saved = get_state_dict(self.wrapped, self.optimizer)
        return {"model": weights, "optimizer": saved}

    def resume(self, folder: str) -> Run:
        """From a checkpoint."""
        states = self.states()
        dcp.load(states, checkpoint_id=folder)
        set_state_dict(
            self.wrapped, self.optimizer, model_state_dict=states["model"], optim_state_dict=states["optimizer"]
        )
        return self


def _whole(x: Any) -> Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x.clone()


KINDS = ("adamw", "sgd", "aligned", "mixed", "ddp")


def main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for kind in KINDS:
        run = Run(kind, rank)
        if kind in ("adamw", "aligned"):
            run.train(range(SAVED))
            dcp.save(run.states(), checkpoint_id=f"{folder}/{kind}")
            run.train(range(SAVED, STEPS))
            again = Run(kind, rank).resume(f"{folder}/{kind}").train(range(SAVED, STEPS))
            torch.save(again.end(), f"{folder}/{kind} again.{rank}.pt")
        else:
            run.train(range(STEPS))
        torch.save(run.end(), f"{folder}/{kind}.{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("error", FutureWarning)
    main(int(sys.argv[1]), sys.argv[2])
