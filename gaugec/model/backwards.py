"""What runs in the backward of a model that is written in Python.

`own_backwards`: which functions (`torch.autograd.Function`), and in which of its modules.  The forward runs without
numbers, and not as one that is exported: it takes the way that training takes.  `python_in_backward` runs a backward,
and hears hooks too, and what a checkpoint runs again.

What this module does not do: it looks at no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import set_multithreading_enabled

from gaugec.model.context import as_trained
from gaugec.model.dry_run import without_numbers
from gaugec.model.functions import listening
from gaugec.model.inputs import copied
from gaugec.model.interfaces import leaves, unheard
from gaugec.model.preserve import preserved


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


def python_in_backward(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool | None:
    """Does Python of the guest's run in the backward?  None where forward or backward fail, or there is none.

    The model is afterwards as it was.
    """
    own = [(p, p.grad) for p in model.parameters()]
    try:
        # the backward runs in this thread, on every device: in others nobody listens
        with preserved(model), as_trained(model), unheard(model.parameters()), set_multithreading_enabled(False):
            inputs = copied(args, kwargs)
            made = model(*inputs[0], **inputs[1])
            ends = [x for x in leaves(dict(made) if isinstance(made, Mapping) else made) if _trained(x)]
            if not ends:
                return None
            total = [x.sum() for x in ends]
            with listening() as ran:
                torch.autograd.backward(total)
        return bool(ran.codes)
    except Exception:
        return None
    finally:
        for p, gradient in own:
            p.grad = gradient


def _trained(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad and x.is_floating_point()
