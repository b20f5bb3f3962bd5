"""Whatever is mixed, a run from gθ is the copy of the run from θ: orbits, intervals, decay, groups, rates, resuming."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
import torch
from torch import nn

from gaugec.runtime import DDCSGD, DDCAdamW, Gauge
from gaugec.runtime.optimizer import ORBITS, GaugeOptimizer
from runtime import handmade
from runtime.test_equivariance import CASES, build

STEPS = 10


class Mixture:
    """A way to train, drawn by a seed."""

    def __init__(self, seed: int, orbit: str) -> None:
        draw = random.Random(seed)
        self.case, self.orbit = draw.choice(list(CASES)), orbit
        self.every, self.lr = draw.choice([1, 2, 3, 10]), draw.choice([1e-3, 1e-2, 3e-2])
        self.decay, self.plain = draw.choice([0.0, 0.1, 0.5]), draw.random() < 0.3
        self.stop = draw.randrange(STEPS)  # where it is saved and resumed
        self.absent = [draw.random() if draw.random() < 0.3 else 0.0 for _ in range(STEPS)]
        self.seed = seed

    def optimizer(self, model: nn.Module, gauge: Gauge) -> GaugeOptimizer:
        pairs = list(model.named_parameters())
        groups = [
            {"params": pairs[::2], "lr": self.lr},
            {"params": pairs[1::2], "lr": self.lr / 3, "weight_decay": self.decay / 2},
        ]
        kind: Any = DDCSGD if self.plain else DDCAdamW
        made: GaugeOptimizer = kind(
            groups, gauge, weight_decay=self.decay, frame_every=self.every, orbit=self.orbit
        )
        return made

    def losses(self, model: nn.Module, gauge: Gauge, data: Any) -> torch.Tensor:
        optimizer, losses = self.optimizer(model, gauge), []
        for step in range(STEPS):
            if step == self.stop:
                file = io.BytesIO()
                torch.save(optimizer.state_dict(), file)
                file.seek(0)
                optimizer = self.optimizer(model, gauge)
                optimizer.load_state_dict(torch.load(file, weights_only=True))
            for group in optimizer.param_groups:
                group["lr"] *= 0.9 if step % 2 else 1.05
            optimizer.zero_grad()
            loss = model(*data(step))
            loss.backward()
            draw = random.Random(self.seed + step)
            for p in model.parameters():
                if draw.random() < self.absent[step]:
                    p.grad = None
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)


@pytest.mark.parametrize("orbit", ORBITS)
@pytest.mark.parametrize("seed", range(8))
def test_copies_stay_copies(orbit: str, seed: int) -> None:
    mixture = Mixture(seed, orbit)
    model, gauge, data = build(mixture.case)
    other = handmade.moved(model, gauge, gauge.random_element(torch.Generator().manual_seed(seed)))
    one, two = (mixture.losses(each, gauge, data) for each in (model, other))
    assert ((one - two).abs() / one.abs()).max() < 1e-12
