"""Gradient descent with momentum in canonical coordinates."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gaugec.runtime.binding import Groups
from gaugec.runtime.gauge import Gauge
from gaugec.runtime.optimizer import GaugeOptimizer
from gaugec.runtime.rules.sgd import SGD


class DDCSGD(GaugeOptimizer):
    """SGD with momentum that takes the same path from every gauge copy of a model.

    lr, momentum, nesterov, maximize: as in torch.optim.SGD, per group.  weight_decay: decoupled, as in AdamW:
    what is taken from the parameters in a step is lr * weight_decay of them, whatever the momentum.
    The others, what is exact and what is raised: as in `DDCAdamW`.  Parameters that no gauge moves take the same step.
    """

    rule = SGD

    def __init__(
        self,
        named_parameters: Groups | nn.Module,
        gauge: Gauge,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        frame_every: int = 10,
        compile: bool = False,
        model: nn.Module | None = None,
        orbit: str = "pinned",
        maximize: bool = False,
    ) -> None:
        defaults: dict[str, Any] = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        defaults["maximize"] = maximize
        super().__init__(named_parameters, gauge, defaults, frame_every, False, compile, model, orbit)
