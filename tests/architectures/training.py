"""A model and its moved copy, trained side by side in double precision: how far their losses come apart.

What this module does not do: it asks neither the witness nor the matcher; it knows `act`, and the optimizer.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from seeds import set_seed
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from architectures.case import Case
from gaugec.runtime import DDCAdamW, Gauge

STEPS = 20


class Double(TorchFunctionMode):
    """While it is entered, what was to be made of 32 or 16 bits is made of 64."""

    def __enter__(self) -> Double:
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_default_dtype(self.before)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def wide(x: Any) -> Any:
            return torch.float64 if isinstance(x, torch.dtype) and x.is_floating_point else x

        args, kwargs = tree_map(wide, (args, kwargs or {}))
        return torch.Tensor.double(*args) if func is torch.Tensor.float else func(*args, **kwargs)


def doubled(inputs: Any) -> Any:
    """The same inputs, floating ones of 64 bits."""
    return tree_map(lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, inputs)


def loss_of(made: Any, loss: str | None) -> Tensor:
    """What is trained: a loss that the model returns, or one of its outputs with numbers of its own."""
    outputs = [x for x in tree_leaves(made) if isinstance(x, Tensor) and x.is_floating_point()]
    if len(outputs) == 1 and outputs[0].ndim == 0:
        return outputs[0]
    generator = torch.Generator().manual_seed(3)
    if loss == "cross_entropy":
        logits = outputs[0].flatten(0, -2)
        classes = torch.randint(logits.shape[-1], (len(logits),), generator=generator)
        return nn.functional.cross_entropy(logits, classes)
    targets = [torch.randn(x.shape, generator=generator) for x in outputs]
    return torch.stack([(x - y).square().mean() for x, y in zip(outputs, targets, strict=True)]).sum()


def trained_element(model: nn.Module, gauge: Gauge) -> dict[str, dict[str, Tensor]]:
    """A random element of every gauge that moves nothing frozen: the others are off, and stand still."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    element = gauge.random_element(torch.Generator().manual_seed(1))
    for key, component, names in gauge.places():
        called = dict(zip(component.shapes, names, strict=True))
        for each, slots in component.moves.items():
            if any(called[slot] in frozen for slot in slots):
                del element[key][each]
    return element


def moved(model: nn.Module, gauge: Gauge) -> nn.Module:
    """A copy of the model, moved by a random element."""
    other = copy.deepcopy(model)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    values: Mapping[str, Tensor] = gauge.act(parameters, trained_element(model, gauge))
    other.load_state_dict({**other.state_dict(), **values})
    return other


def losses(model: nn.Module, gauge: Gauge, case: Case) -> Tensor:
    """The loss before every step of the compiled optimizer, and after the last one."""
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=3e-3, weight_decay=0.1, frame_every=5)
    args, kwargs = doubled((case.args, dict(case.kwargs)))
    made = []
    for step in range(STEPS + 1):
        set_seed(step)  # the same units are dropped
        optimizer.zero_grad()
        loss = loss_of(model(*args, **kwargs), case.loss)
        loss.backward()
        made.append(loss.detach())
        optimizer.step()
    return torch.stack(made)


def apart(gauge: Gauge, case: Case) -> float:
    """The largest relative difference of the losses from θ and from gθ, over STEPS steps; case: of float32."""
    with Double():
        one = copy.deepcopy(case.model).double()
        two = moved(one, gauge)
        before, after = dict(one.named_parameters()), dict(two.named_parameters())
        assert any(not torch.allclose(before[name], after[name]) for name in before), "the element moves nothing"
        first, second = losses(one, gauge, case), losses(two, gauge, case)
    assert first[-1] != first[0], "nothing was trained"
    return ((first - second).abs() / first.abs()).max().item()
