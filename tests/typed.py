"""What a user's type checker must take, with `--strict`: `make lint` shows it to mypy, nothing runs it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import gaugec.runtime
from gaugec.runtime import DDCSGD, DDCAdamW, Gauge


def by_tensor(model: nn.Module, gauge: Gauge) -> torch.optim.Optimizer:
    """A learning rate may be a tensor."""
    return DDCAdamW(model.named_parameters(), gauge, lr=torch.tensor(1e-3))


def by_any(model: nn.Module, gauge: Any) -> torch.optim.Optimizer:
    """A gauge may be of no known type, and parameters in groups."""
    return DDCAdamW([{"params": list(model.named_parameters()), "lr": torch.tensor(1e-3)}], gauge)


def loaded(model: nn.Module) -> torch.optim.Optimizer:
    """What a compiled file gives."""
    return DDCSGD(model, gaugec.runtime.load("gauge.py"), lr=1e-2)
