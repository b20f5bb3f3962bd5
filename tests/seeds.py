"""Seeds on the CPU: `torch.manual_seed` also writes down the whole stack, once for every other kind of device."""

from __future__ import annotations

import torch


def set_seed(number: int) -> None:
    """Seeds the generator that every test draws from."""
    torch.default_generator.manual_seed(number)
