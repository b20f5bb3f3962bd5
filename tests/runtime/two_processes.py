"""What two processes do together for `test_distributed`: every run of `KINDS`; what is at its end, and checkpoints.

Process RANK saves the ends as KIND.RANK.pt, and of runs that were resumed from a checkpoint as "KIND again.RANK.pt".
"""

from __future__ import annotations

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

from gaugec.runtime import DDCSGD, DDCAdamW, DDCMuon
from gaugec.runtime.optimizer import GaugeOptimizer
from runtime import handmade

KINDS = ("adamw", "sgd", "muon", "aligned", "mixed", "ddp")
RESUMED = ("adamw", "muon", "aligned")
STEPS, EVERY, SAVED = 20, 7, 9  # two pins; saved between them
WATCHED = (1, 2, EVERY)  # steps of which messages are counted, which takes longer than they do


class Three(handmade.Shape):
    """Three heads, so that one of queries, keys and values is cut in two; one unit: one process has nothing of it."""

    units, heads, kv = 1, 3, 3


class Run:
    """A model, its optimizer and its batches, of which each of two processes takes a half, and one both halves.

    kind: "adamw", "sgd" and "muon" of a Llama in shards that cut a head, in float32; in float64 "aligned": of one whose
    heads are whole, "mixed" of an MLP that is sharded in part, "ddp" of one that is not.
    rank: None of one process.  norms: of the gradients; messages: collectives of steps, by name.
    """

    def __init__(self, kind: str, rank: int | None = None) -> None:
        self.kind, self.rank = kind, rank
        torch.manual_seed(0)
        self.model, gauge = self._made()
        self.wrapped: nn.Module = self.model
        if rank is not None:
            self._divide()
        settings: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1, "frame_every": EVERY}
        form: Any = {"sgd": DDCSGD, "muon": DDCMuon}.get(kind, DDCAdamW)
        if kind == "muon":
            settings |= {"adamw_lr": 1e-2, "ns_dtype": torch.float32}
        self.optimizer: GaugeOptimizer = form(self.wrapped.named_parameters(), gauge, **settings)
        self.norms: list[float] = []
        self.messages: dict[int, dict[str, int]] = {}

    def _made(self) -> tuple[nn.Module, Any]:
        if self.kind in ("mixed", "ddp"):
            model: nn.Module = handmade.MLP().double()
            return model, handmade.compiled(model, handmade.mlp_sites())
        aligned, plus = self.kind == "aligned", float(self.kind == "sgd")
        size = handmade.Shape if aligned else Three
        model = handmade.Llama(size, plus).to(torch.float64 if aligned else torch.float32)
        return model, handmade.with_roles(model, handmade.compiled(model, handmade.llama_sites(size, plus)))

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
            return handmade.numbers(number)
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
                dist.all_reduce(p.grad)
                p.grad /= 2

    def train(self, steps: range) -> Run:
        """Steps of some numbers, clipped."""
        for number in steps:
            self._slopes(number)
            counted = self.rank is not None and self.kind != "ddp" and number in WATCHED
            with CommDebugMode() if counted else nullcontext() as clipping:
                self.norms.append(float(self.optimizer.clip_grad_norm_(0.5)))
            with CommDebugMode() if counted else nullcontext() as stepping:
                self.optimizer.step()
            if stepping is not None and clipping is not None:
                counts = {str(name).split(".")[-1].strip("_"): n for name, n in stepping.get_comm_counts().items()}
                self.messages[number] = {**counts, "clipping": clipping.get_total_counts()}
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


def main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error", FutureWarning)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for kind in KINDS:
        run = Run(kind, rank)
        if kind in RESUMED:
            run.train(range(SAVED))
            dcp.save(run.states(), checkpoint_id=f"{folder}/{kind}")
            run.train(range(SAVED, STEPS))
            again = Run(kind, rank).resume(f"{folder}/{kind}").train(range(SAVED, STEPS))
            torch.save(again.end(), f"{folder}/{kind} again.{rank}.pt")
        else:
            run.train(range(STEPS))
        torch.save(run.end(), f"{folder}/{kind}.{rank}.pt")
    dist.destroy_process_group()
