"""Which backwards of a model are written in Python (`torch.autograd.Function`), and in which of its modules.

The forward runs without numbers, and not as one that is exported: it takes the way that training takes.

What this module does not do: it runs no backward, and it does not see what a hook does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gaugec.model.dry_run import without_numbers
from gaugec.model.interfaces import leaves


def own_backwards(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, type]]:
    """The module's path and the function's class, in the order in which the forward comes to them.

    Raises:
        Exception: whatever the forward raises, or asks that only numbers can answer.
    """
    paths = {module: path for path, module in model.named_modules()}
    inside: list[str] = [""]
    events: list[tuple[int, str]] = []
    probe = torch.ones((), requires_grad=True)

    def now() -> int:
        made = (probe * 1).grad_fn
        return int(made._sequence_nr()) if made is not None else 0

    def enters(module: nn.Module, given: Any) -> None:
        inside.append(paths.get(module, inside[-1]))
        events.append((now(), inside[-1]))

    def leaves_it(module: nn.Module, given: Any, made: Any) -> None:
        inside.pop()
        events.append((now(), inside[-1]))

    before = nn.modules.module.register_module_forward_pre_hook(enters)
    after = nn.modules.module.register_module_forward_hook(leaves_it, always_call=True)
    try:
        made = without_numbers(model, args, kwargs)
    finally:
        before.remove()
        after.remove()
    found: dict[int, type] = {}
    todo: list[Any] = [x.grad_fn for x in leaves(made) if isinstance(x, Tensor)]
    seen: set[Any] = set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            found[node._sequence_nr()] = type(node)._forward_cls  # type: ignore[attr-defined]
        todo += [following for following, _ in node.next_functions]
    return [(max((e for e in events if e[0] <= n), default=(0, ""))[1], found[n]) for n in sorted(found)]
