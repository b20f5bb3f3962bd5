"""A model and its gauge copies, without training: canonical representatives, distances, paths.

What this module does not do: it asks neither the witness nor the optimizer.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from seeds import set_seed
from torch import Tensor, nn

from architectures.case import Case
from architectures.training import Double, doubled, loss_of
from gaugec.runtime import Gauge

CLOSE = 1e-12  # a distance of copies, over the size of the parameters
SAME = 1e-10  # a relative difference of losses


def loss(model: nn.Module, case: Case) -> Tensor:
    """The loss of a model on the inputs of a case, in double precision."""
    args, kwargs = doubled((case.args, dict(case.kwargs)))
    set_seed(0)
    return loss_of(model(*args, **kwargs), case.loss).detach()


def wrong(gauge: Gauge, case: Case) -> list[str]:
    """What is wrong with the copies of a model, in words; case: of float32."""
    with Double():
        one = copy.deepcopy(case.model).double()
        two = gauge.random_copy(one, torch.Generator().manual_seed(1))
        other = copy.deepcopy(one)
        with torch.no_grad():
            for p in other.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
        found = []
        between, far = gauge.distance(one, two), gauge.distance(one, other)
        if between.relative > CLOSE and not between.formless:
            found.append(f"copies are {between.relative:.0e} apart")
        if float(gauge.distance(two, one)) != float(between) or float(gauge.distance(other, one)) != float(far):
            found.append("a distance differs the other way round")
        moved = gauge.distance(two, other)
        if abs(float(moved) - float(far)) > CLOSE * far.size and not (moved.formless or moved.searched):
            found.append(f"a third model is {abs(float(moved) - float(far)):.0e} further from a copy")
        wanted: dict[str, Any] = {"a random copy": (two, one)}
        canonical = copy.deepcopy(two)
        gauge.canonicalize_(canonical)
        wanted["its canonical representative"] = (canonical, one)
        again = gauge.canonicalize_(copy.deepcopy(canonical))
        if max(again.scaled.values(), default=1.0) > 1 + CLOSE:
            found.append("what is canonical is scaled again")
        end = copy.deepcopy(one)
        end.load_state_dict(gauge.interpolate(one, other, 1.0))
        wanted["the end of a path"] = (end, other)
        half = copy.deepcopy(one)
        half.load_state_dict(gauge.interpolate(one, two, 0.5))
        if not between.formless:
            wanted["the middle of a path between copies"] = (half, one)
        for what, (here, there) in wanted.items():
            apart = (loss(here, case) - loss(there, case)).abs() / loss(there, case).abs()
            if not apart <= SAME:
                found.append(f"{what} has another loss, by {apart:.0e}")
        return found
