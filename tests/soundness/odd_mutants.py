"""Mutants that hold tensors of unusual kinds, or are compiled in unusual contexts: a verdict or a refusal.

The function is that of the base.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from soundness.model_bases import replace
from soundness.mutant_registry import Change, add
from soundness.setting_mutants import runs
from torch import Tensor, nn

P = "perceptron"


def buffer(make: Any) -> Change:
    return runs(lambda m: m.register_buffer("odd", make()))


def attribute(make: Any) -> Change:
    return runs(lambda m: m.__dict__.__setitem__("odd", make()))


def parameter(make: Any, grad: bool = False) -> Change:
    return runs(lambda m: m.register_parameter("odd", nn.Parameter(make(), requires_grad=grad)))


class Own(Tensor):
    """A tensor of a class of its own."""


def inferred() -> Tensor:
    with torch.inference_mode():
        return torch.ones(3)


@contextlib.contextmanager
def default_device() -> Any:
    before = torch.get_default_device()
    torch.set_default_device("cpu")
    try:
        yield
    finally:
        torch.set_default_device(before)


KINDS: dict[str, Any] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "CSR": lambda: torch.eye(3).to_sparse_csr(),
    "CSC": lambda: torch.eye(3).to_sparse_csc(),
    "BSR": lambda: torch.eye(4).to_sparse_bsr((2, 2)),
    "mkldnn": lambda: torch.ones(2, 2, dtype=torch.float32).to_mkldnn(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)], layout=torch.jagged),
    "complex": lambda: torch.ones(3, dtype=torch.complex128),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3, dtype=torch.float32), 0.1, 0, torch.qint8),
    "of inference": inferred,
    "bool": lambda: torch.ones(3, dtype=torch.bool),
    "bytes": lambda: torch.ones(3, dtype=torch.uint8),
    "empty": lambda: torch.empty(0),
    "a number": lambda: torch.tensor(1.0),
    "half": lambda: torch.ones(3, dtype=torch.float16),
    "eight bits": lambda: torch.ones(3).to(torch.float8_e4m3fn),
    "expanded": lambda: torch.ones(1).expand(4),
    "of its own class": lambda: torch.ones(3).as_subclass(Own),
    "conjugated": lambda: torch.ones(3, dtype=torch.complex128).conj(),
    "meta": lambda: torch.ones(3, device="meta"),
}  # fmt: skip
BEYOND = ("nested", "jagged", "quantized")  # torch's own export takes none of these
for name, make in KINDS.items():
    add("odd tensors", P, f"a buffer: {name}", buffer(make), "mixed" if name in BEYOND else "sound")
for name in ("sparse", "CSR", "nested", "jagged", "mkldnn", "quantized", "meta", "of inference"):
    add("odd tensors", P, f"an attribute: {name}", attribute(KINDS[name]), "sound")
for name in ("bool", "bytes", "empty", "a number", "half", "sparse", "of its own class", "of inference"):
    add("odd tensors", P, f"a frozen parameter: {name}", parameter(KINDS[name]), "sound")
for name in ("empty", "a number", "half"):
    add("odd tensors", P, f"a parameter: {name}", parameter(KINDS[name], grad=True), "sound")


def whole_numbers(m: Any) -> None:
    """A frozen reader of integers, which plays the part of a weight."""
    m.down.weight = nn.Parameter(torch.arange(9 * 14).reshape(9, 14) % 5, requires_grad=False)
    m.forward = lambda x: torch.relu(m.up(x)) @ m.down.weight.double().T


def scripted(m: Any) -> None:
    m.mid = torch.jit.script(nn.Identity())
    m.middle = lambda h: m.mid(h)


def exported(m: Any) -> None:
    m.mid = torch.export.export(nn.Tanh(), (torch.ones(6, 9),)).module()
    m.finish = lambda y, h: m.mid(y)


def weights(make: Any) -> Change:
    return runs(lambda m: replace(m, "up.weight", nn.Parameter(make())))


add("odd tensors", P, "a frozen weight of integers", runs(whole_numbers), "mixed")
add("odd tensors", P, "a scripted part", runs(scripted), "mixed")  # nor this
add("odd tensors", P, "an exported part", runs(exported), "sound")
add("odd tensors", P, "weights with an offset", weights(lambda: torch.randn(15, 11)[1:]), "sound")
add("odd tensors", P, "weights by columns", weights(lambda: torch.randn(11, 14).T), "sound")
for name, context in {
    "no_grad": torch.no_grad, "a default device": default_device, "autograd's anomalies": torch.autograd.detect_anomaly,
    "a device context": lambda: torch.device("cpu"), "deterministic fills": lambda: torch.random.fork_rng(),
}.items():  # fmt: skip
    add("odd tensors", P, f"within {name}", lambda m: None, "sound", within=context)
add("odd tensors", P, "within inference_mode", lambda m: None, "mixed", within=torch.inference_mode)
add("odd tensors", P, "an attribute: no tensor at all", attribute(object), "sound")
