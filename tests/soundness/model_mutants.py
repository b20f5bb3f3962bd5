"""All model mutants: importing this module registers them."""

from soundness import (
    attention_mutants,
    choice_mutants,
    hostile_mutants,
    layer_mutants,
    real_mutants,
    unit_mutants,
)
from soundness.mutant_registry import KINDS, MORE_KINDS, MUTANTS, Mutant

MODULES = (unit_mutants, hostile_mutants, choice_mutants, attention_mutants, layer_mutants, real_mutants)

__all__ = ["KINDS", "MODULES", "MORE_KINDS", "MUTANTS", "Mutant"]
