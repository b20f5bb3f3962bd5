"""What the settings of a param group may be: what is wrong is said with its name, its group and what it should be.

Flags that torch.optim has and that choose only how a step is computed are known: at their defaults they are accepted
and forgotten, otherwise refused with what to do instead. Not here: what a setting does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Flag(NamedTuple):
    """A flag of torch.optim that is known by its default alone: the default, and what to do in place of another."""

    default: bool | None
    instead: str


FLAGS: dict[str, Flag] = {
    "amsgrad": Flag(False, "the largest second moments are not kept; a smaller lr or a larger beta2 does their work"),
    "foreach": Flag(None, "leave it out: small tensors are stepped together as it is, wherever they are"),
    "fused": Flag(None, "leave it out: torch's fused kernel serves where it can; compile=True fuses all of a step"),
    "capturable": Flag(False, "a step counts on the host, and cannot be captured in a graph; compile=True fuses it"),
    "differentiable": Flag(False, "a step is not differentiated through; take the loss's own derivatives"),
}


def check(group: Mapping[str, Any], number: int | None = None) -> None:
    """Raise ValueError for a setting that is none; number: of which param group, from 0, where it is of one."""
    of = "" if number is None else f" of group {number}"
    for name, (right, what) in SETTINGS.items():
        if name in group and not right(group[name]):
            raise ValueError(f"{name}{of} is {_shown(group[name])}: it should be {what}")
    for name, flag in FLAGS.items():
        if name in group and group[name] is not flag.default:
            raise ValueError(
                f"{name}={group[name]!r}{of} is not supported, only {name}={flag.default!r}: {flag.instead}"
            )


def without_flags(group: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the flags that choose only how a step is computed."""
    return {name: value for name, value in group.items() if name not in FLAGS}


def real(x: object) -> bool:
    """Is it a finite number, or a tensor that holds one?"""
    if isinstance(x, Tensor):
        return x.numel() == 1 and not x.is_complex() and math.isfinite(float(x))
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)


def _not_negative(x: Any) -> bool:
    return real(x) and float(x) >= 0


def _positive(x: Any) -> bool:
    return not isinstance(x, Tensor) and real(x) and x > 0


def _fraction(x: Any) -> bool:
    return not isinstance(x, Tensor) and real(x) and 0 <= x < 1


def _fractions(x: Any) -> bool:
    return isinstance(x, (tuple, list)) and len(x) == 2 and all(map(_fraction, x))


def _steps(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and 0 < x < 100


def _three(x: Any) -> bool:
    return isinstance(x, (tuple, list)) and len(x) == 3 and all(not isinstance(n, Tensor) and real(n) for n in x)


SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (_not_negative, "a finite number, or a tensor with one, that is not negative"),
    "adamw_lr": (_not_negative, "a finite number, or a tensor with one, that is not negative"),
    "adamw_weight_decay": (_not_negative, "a finite number that is not negative"),
    "betas": (_fractions, "two numbers in [0, 1)"),
    "eps": (_positive, "a finite number above 0"),
    "weight_decay": (_not_negative, "a finite number that is not negative"),
    "momentum": (_fraction, "a number in [0, 1)"),
    "nesterov": (lambda x: isinstance(x, bool), "True or False"),
    "ns_steps": (_steps, "a number of steps, 1 to 99"),
    "ns_coefficients": (_three, "three finite numbers"),
    "adjust_lr_fn": (lambda x: x in (None, "original", "match_rms_adamw"), "None, 'original' or 'match_rms_adamw'"),
    "ns_dtype": (
        lambda x: x in (None, torch.bfloat16, torch.float16, torch.float32, torch.float64),
        "None, torch.bfloat16, torch.float16, torch.float32 or torch.float64",
    ),
    "step": (lambda x: x in ("muon", "adamw"), "'muon' or 'adamw'"),
    "decay_gains": (lambda x: isinstance(x, bool), "True or False"),
    "maximize": (lambda x: isinstance(x, bool), "True or False"),
}


def _shown(value: Any) -> str:
    several = isinstance(value, Tensor) and value.numel() != 1
    return f"a tensor of shape {tuple(value.shape)}" if several else f"{value!r}"
