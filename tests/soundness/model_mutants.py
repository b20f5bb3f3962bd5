"""All model mutants: importing this module registers them."""

from soundness import (
    alias_mutants,
    attention_mutants,
    choice_mutants,
    gradient_mutants,
    hostile_mutants,
    layer_mutants,
    list_mutants,
    mode_mutants,
    near_miss_mutants,
    numberless_mutants,
    odd_mutants,
    output_mutants,
    real_mutants,
    scale_mutants,
    setting_mutants,
    size_mutants,
    state_mutants,
    turning_mutants,
    unit_mutants,
)
from soundness.mutant_registry import KINDS, MORE_KINDS, MUTANTS, UNSEEN_KINDS, Mutant

MODULES = (
    unit_mutants, hostile_mutants, choice_mutants, attention_mutants, layer_mutants, real_mutants, scale_mutants,
    setting_mutants, mode_mutants, size_mutants, state_mutants, alias_mutants, gradient_mutants, numberless_mutants,
    odd_mutants, output_mutants, near_miss_mutants,
    turning_mutants, list_mutants,
)  # fmt: skip

__all__ = ["KINDS", "MODULES", "MORE_KINDS", "MUTANTS", "UNSEEN_KINDS", "Mutant"]
