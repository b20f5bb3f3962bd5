"""Gradient descent with momentum in canonical coordinates."""

from __future__ import annotations

from typing import Any

from torch import nn

from gaugec.runtime.binding import Groups
from gaugec.runtime.optimizer import GaugeOptimizer
from gaugec.runtime.rules.sgd import SGD


class DDCSGD(GaugeOptimizer):
    """SGD with momentum that takes the same path from every gauge copy of a model.

    lr, momentum, nesterov: as in torch.optim.SGD, per group.  weight_decay: decoupled, as in AdamW: what is taken from
    the parameters in a step is lr * weight_decay of them, whatever the momentum.
    The others, what is exact and what is raised: as in `DDCAdamW`.  Parameters that no gauge moves take the same step.
    """

    rule = SGD

    def __init__(
        self,
        named_parameters: Groups,
        gauge: Any,
        lr: float = 1e-3,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        frame_every: int = 10,
        compile: bool = False,
        model: nn.Module | None = None,
        orbit: str = "pinned",
    ) -> None:
        if not lr >= 0 or not weight_decay >= 0 or not 0 <= momentum < 1:
            raise ValueError(
                f"lr and weight_decay are not negative, momentum lies in [0, 1): {lr}, {weight_decay}, {momentum}"
            )
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(named_parameters, gauge, defaults, frame_every, False, compile, model, orbit)
