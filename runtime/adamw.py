"""AdamW in canonical coordinates, with pooled second moments."""

from __future__ import annotations

from torch import Tensor, nn

from gaugec.runtime import settings
from gaugec.runtime.binding import Groups
from gaugec.runtime.gauge import Gauge
from gaugec.runtime.optimizer import GaugeOptimizer
from gaugec.runtime.rules.adamw import ADAMW


class DDCAdamW(GaugeOptimizer):
    """AdamW that takes the same path from every gauge copy of a model.

    named_parameters: model.named_parameters(), or a list of param groups whose "params" are (name, parameter) pairs; a
    model stands for its parameters, and for `model`.
    gauge: what gaugec.compile or gaugec.runtime.load returns.
    lr, betas, eps, weight_decay: as in torch.optim.AdamW, per group; decay acts on the canonical parameters.
    frame_every: steps between two pins, or frames; exact whatever the number.
    pooling: average second moments over what compact elements mix; without it rotations are no longer exact.
    compile: fuse the steps with torch.compile: faster after a minute of compiling; on the CPU it needs a C++ compiler.
    orbit: "pinned": steps in a chart that stays, and every `frame_every` steps a move back along the orbits, which no
        function sees; "horizontal": what runs along the orbits is removed from every step, in frames that are taken
        anew every `frame_every` steps; several times slower.
    model: where it is given, that it still is what the gauge was compiled with is checked (see `Gauge.holds`), and
    parameters without names get theirs of it.
    maximize: ascend.  amsgrad, foreach, capturable, differentiable, fused: as torch has them by default, or refused.

    A step is equivariant for scales between 1e-12 and 1e12 (1e-4 and 1e4 in float16); a unit beyond, or with a norm of
    zero, keeps its last scale.  It is accurate for shifts of at most 1e5 times the spread of what they are added to in
    float64, 1e2 in float32, 10 below.  What leaves these ranges is said once, with the parameters' names.

    Parameters may be DTensors, whole or sharded by rows, on pinned orbits.  Each process makes the same calls then.

    Parameters that no gauge moves take torch.optim.AdamW's step.  Raises ValueError for wrong settings, doubled
    parameters, wrong shapes, and a model of which something differs, TypeError for parameters without names,
    RuntimeError where there is nothing to compile with; warns of gauges that are off (`inactive`) and of singular
    orbits.
    """

    rule = ADAMW

    def __init__(
        self,
        named_parameters: Groups | nn.Module,
        gauge: Gauge,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        frame_every: int = 10,
        pooling: bool = True,
        compile: bool = False,
        model: nn.Module | None = None,
        orbit: str = "pinned",
        *,
        maximize: bool = False,
        amsgrad: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        flags = {"amsgrad": amsgrad, "foreach": foreach, "capturable": capturable, "differentiable": differentiable}
        settings.check({**defaults, **flags, "fused": fused})
        super().__init__(named_parameters, gauge, defaults, frame_every, pooling, compile, model, orbit)
