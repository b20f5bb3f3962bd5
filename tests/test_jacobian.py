"""The oracle: the dense float64 Jacobian of a tiny Llama knows every dead direction without having heard of a gauge.

The function is the logits up to a shift of each row, over more inputs than parameters; sizes are those of the theory's
table, and its integers are what is counted here.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

import gaugec
from runtime import handmade

# layers, heads, key/value heads, head width, exact nullity of the whole model, dimension of the five gauges' orbits
TABLE = [(2, 2, 2, 4, 168, 92), (1, 2, 1, 4, 86, 46), (1, 4, 2, 2, 78, 42)]


class Logits(handmade.Llama):
    """The same model, with its logits for all tokens."""

    def logits(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.logits(ids)
        return rows - rows.mean(-1, keepdim=True)


class Trained(Logits):
    """What the compiler is given: logits."""

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits(ids)


def jacobian(model: nn.Module, ids: Tensor, names: list[str]) -> Tensor:
    params = {name: p.detach() for name, p in model.named_parameters()}

    def run(values: dict[str, Tensor]) -> Tensor:
        return functional_call(model, values, (ids,)).flatten()

    made = jacrev(run, chunk_size=128)(params)
    return torch.cat([made[name].flatten(1) for name in names], 1)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"layers{row[0]}-heads{row[1]}-kv{row[2]}")
def test_every_tangent_is_a_dead_direction_and_their_number_is_the_theorys(row: tuple[int, ...]) -> None:
    layers, heads, kv, head, nullity, dimension = row
    sizes = dict(width=8, units=6, heads=heads, kv=kv, head=head, layers=layers, vocab=11)
    shape = type("Small", (handmade.Shape,), sizes)
    torch.manual_seed(0)
    model = Logits(shape).double()
    trained = Trained(shape).double()
    trained.load_state_dict(model.state_dict())
    ids = torch.randint(11, (24, 6), generator=torch.Generator().manual_seed(1))
    compiled = gaugec.compile("llama", trained, (ids[:3],), loss="cross_entropy")
    names = [name for name, _ in model.named_parameters()]
    matrix = jacobian(model, ids, names)
    assert matrix.shape[0] > matrix.shape[1]
    values = torch.linalg.svdvals(matrix)
    assert matrix.shape[1] - int((values > 1e-12 * values[0]).sum()) == nullity
    # eps in the norms makes one direction more, the scale of the residual stream, nearly dead: it is counted apart
    assert matrix.shape[1] - int((values > 1e-7 * values[0]).sum()) == nullity + 1

    tangents = []
    params = {name: p.detach() for name, p in model.named_parameters()}
    for _, component, found in compiled.places():
        slots = dict(zip(component.shapes, found, strict=True))
        for number in range(len(next(iter(whole(component, params, slots).values())))):
            vector = {name: torch.zeros_like(params[name]) for name in names}
            for slot, value in whole(component, params, slots).items():
                vector[slots[slot]] = value[number, 0]
            tangents.append(torch.cat([vector[name].flatten() for name in names]))
    stack = torch.stack(tangents)
    assert (stack.norm(dim=1) > 1e-8).all()
    pushed = matrix @ stack.T
    assert (pushed.norm(dim=0) <= 1e-10 * values[0] * stack.norm(dim=1)).all()
    assert int(torch.linalg.matrix_rank(stack, rtol=1e-9)) == dimension == len(stack)


_MEMO: dict[int, dict[str, Tensor]] = {}


def whole(component: object, params: dict[str, Tensor], slots: dict[str, str]) -> dict[str, Tensor]:
    """All tangents of a component at one place: slot -> [number, 1, *shape]."""
    if id(slots) not in _MEMO:
        batch = {slot: params[name].unsqueeze(0) for slot, name in slots.items()}
        _MEMO.clear()
        _MEMO[id(slots)] = component.tangents(batch)  # type: ignore[attr-defined]
    return _MEMO[id(slots)]
