"""Exporting a model: `torch.export` in the modes in which it is trained, with nothing in the program that writes.

What is in eval mode has no dropout nodes, and a batch norm reads its buffers (`gaugec.model.context.as_trained`).  What
writes in place is decomposed with an empty table, so that linear, attention and einsum stay whole.

What this module does not do: it reads no operation (see `gaugec.tracing.lower`); what makes an export unfit for a proof
is looked for in `gaugec.tracing.hidden` and `gaugec.tracing.attributes`.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn

from gaugec.errors import MatchError, printable
from gaugec.model.context import as_trained
from gaugec.model.interfaces import OpOverload, uncompiled
from gaugec.model.picked import Picked
from gaugec.model.preserve import preserved
from gaugec.tracing.attributes import nothing_left_on
from gaugec.tracing.hidden import no_hidden_gradients, no_shared_constants
from gaugec.tracing.left_behind import Place
from gaugec.tracing.regions import open_regions
from gaugec.tracing.untraceable import untraceable


def _names_are_no_code(model: nn.Module) -> None:
    """torch.fx writes the names of parameters into source text as they are, and runs it.

    Raises:
        MatchError: a name that could leave the string that it stands in.
    """
    kinds = (
        ("parameter", model.named_parameters(remove_duplicate=False)),
        ("buffer", model.named_buffers(remove_duplicate=False)),
        ("module", model.named_modules(remove_duplicate=False)),
    )
    for what, items in kinds:
        for name, _ in items:
            if set(name) & set('"\n\r\0'):
                raise MatchError(
                    f"the name of the {what} '{printable(name)}' holds a double quote or a line break",
                    help="torch.export would take it for code: rename it",
                )


def exported(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], weights: frozenset[Place] = frozenset()
) -> torch.export.ExportedProgram:
    """The exported program in the modes of training, undecomposed but for in-place and higher-order operations.

    weights: what the forward may set on its modules (see `gaugec.tracing.left_behind`).

    Raises:
        MatchError: it cannot be exported, or what is exported is not the function that is trained.
    """
    _names_are_no_code(model)
    # the graph is read, and its code never run: a quarter of the time goes into writing and compiling it
    with as_trained(model), uncompiled(True):
        try:
            with preserved(model, parameters=False), nothing_left_on(model, weights), Picked():
                program = torch.export.export(model, args, kwargs, strict=False)
            open_regions(program)
            no_hidden_gradients(program)
            no_shared_constants(model, program)
            return program if _functional(program) else program.run_decompositions({})
        except MatchError:
            raise
        except Exception as error:
            raise untraceable(model, error) from error


def _functional(program: torch.export.ExportedProgram) -> bool:
    """Is an export as it comes what a decomposition would make of it: no operation in it that writes, or holds others?

    A decomposition with an empty table does nothing else, and is half of the time of an export.
    """
    nodes = program.graph.nodes
    return all(_writes_nothing(n.target) for n in nodes if n.op not in ("placeholder", "output"))


def _writes_nothing(target: Any) -> bool:
    """An operation of ATen whose schema says that it writes nothing; that of a batch norm does not say what it does."""
    if target is operator.getitem:
        return True
    if not isinstance(target, OpOverload) or target.namespace != "aten" or target._schema.is_mutable:
        return False
    if torch.Tag.maybe_aliasing_or_mutating in target.tags:
        return False
    return not any("running" in argument.name for argument in target._schema.arguments)
