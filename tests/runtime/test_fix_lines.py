"""`fix` lines with every kind of constant: solved, written, run, and refused with their place where that cannot be."""

from __future__ import annotations

import dataclasses
import functools
import random
import re
import warnings

import pytest
import torch
from unit_scale import unit_scale

from gaugec.errors import GaugeError
from gaugec.language.check import check
from gaugec.language.lower import lower_fixes
from gaugec.language.parse import parse
from gaugec.runtime import DDCAdamW, Gauge
from runtime import handmade

SIZES = (7, 6, 5)
PLACE = 11, 5  # of the fix line


@functools.cache
def compiled(fix: str) -> Gauge:
    """Two layers under this fix line."""
    (own,) = check(parse(unit_scale(bias="b1[f]", fix=fix), "test.gauge")).gauges
    (site,) = handmade.mlp_sites(SIZES)
    site = dataclasses.replace(site, gauge=own.name, fix=lower_fixes(own))
    return Gauge(handmade.source(handmade.MLP(SIZES), [site]))


def sides(fix: str, norms: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Both sides of a fix line that is Python, as it stands."""
    names = {
        "rownorm": lambda x: norms[x],
        "colnorm": lambda x: norms[x],
        "abs": lambda x: norms[x],
        "W1": "W1",
        "b1": "b1",
        "W2": "W2",
    }
    return [eval(re.sub(r"(\d+)\*\*", r"\1.0**", side), names) for side in fix.split("==")]  # the test's own text


def canonical(fix: str, dtype: torch.dtype) -> None:
    """After a step's frame the line holds, and the step is finite."""
    torch.manual_seed(0)
    model = handmade.MLP(SIZES).to(dtype)
    gauge = compiled(fix)
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-4)
    (component,), (batch,) = gauge.components, optimizer.batches
    point = component.canonical(batch.params(), component.frame(batch.params()))
    w1, b1, w2 = (point[slot].double() for slot in component.shapes)
    norms = {"W1": w1.norm(dim=2), "b1": b1.abs(), "W2": w2.norm(dim=1)}
    left, right = sides(fix, norms)
    left, right = (torch.as_tensor(side, dtype=torch.float64).expand(1, SIZES[1]) for side in (left, right))
    assert torch.allclose(left, right, rtol=1e-5 if dtype == torch.float32 else 1e-11, atol=0)
    before = [p.detach().clone() for p in model.parameters()]
    model(*(x.to(dtype) for x in numbers())).backward()
    optimizer.step()
    assert all(0 < (p.detach() - q).abs().max() < 1 for p, q in zip(model.parameters(), before))


def numbers() -> tuple[torch.Tensor, torch.Tensor]:
    """Data for the model."""
    return torch.randn(16, SIZES[0]), torch.randn(16, SIZES[-1])


CONSTANTS = [
    "rownorm(W1) == 2 * colnorm(W2)",
    "rownorm(W1) == colnorm(W2) / 3",
    "rownorm(W1) == 2 / 7 * colnorm(W2)",
    "rownorm(W1) == 0.1 * colnorm(W2)",
    "rownorm(W1) == 2**(1/2) * colnorm(W2)",
    "rownorm(W1) == (1/2)**(1/2)",
    "rownorm(W1) == 3**(1/3)",
    "rownorm(W1) == 1 / 7",
    "rownorm(W1) == 5",
    "rownorm(W1) * 10**40 == 10**40 * colnorm(W2)",
    "rownorm(W1) * 10**(-40) == 10**(-40) * colnorm(W2)",
    "rownorm(W1) == 123456789123456789 / 123456789123456788 * colnorm(W2)",
    "rownorm(W1) == 1 + 2**(1/2)",
    "rownorm(W1) / (3 - 2**(1/2)) == colnorm(W2)",
    "rownorm(W1) + 1 == 3",
    "rownorm(W1)**(1/3) == 2**(1/7) * colnorm(W2)**(2/5)",
    "rownorm(W1)**(-1) == 3 * colnorm(W2)**(-2)",
    "rownorm(W1)**2 + abs(b1)**2 == 2**(1/3)",
    "rownorm(W1)**2 + abs(b1)**2 == 3 * colnorm(W2)**2",
    "rownorm(W1) == 10**6 * colnorm(W2)",
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("fix", CONSTANTS)
def test_constants_are_solved_written_and_run(fix: str, dtype: torch.dtype) -> None:
    canonical(fix, dtype)


FAR = (
    "unit_scale: this fix takes the parameters far from where they are: where all norms are 1, they are multiplied or "
    "divided by {}, and a step would be thrown back as far"
)
WRONG = "unit_scale: a constant of this fix, or of its solution, is no number of float64"


@pytest.mark.parametrize(
    ("fix", "message", "help"),
    [
        (
            "rownorm(W1) == 10**40 * colnorm(W2)",
            FAR.format("1e+20"),
            "choose a constant that keeps that between 0.001 and 1000",
        ),
        ("rownorm(W1) == 10**(-40)", FAR.format("1e-40"), "choose a constant that keeps that between 0.001 and 1000"),
        (
            "rownorm(W1) == 10**7 * colnorm(W2)",
            FAR.format("3.16e+03"),
            "choose a constant that keeps that between 0.001 and 1000",
        ),
        ("rownorm(W1) == (10**64)**64 * colnorm(W2)", WRONG, "write a smaller one"),
        ("rownorm(W1) * (10**64)**64 == 1", WRONG, "write a smaller one"),
    ],
)
def test_a_fix_that_is_far_from_the_parameters_is_refused(fix: str, message: str, help: str) -> None:
    with pytest.raises(GaugeError) as refused:
        compiled(fix)
    assert (refused.value.message, refused.value.help) == (message, help)
    span = refused.value.span
    assert span is not None and (span.line, span.column) == PLACE


NUMBERS = ("1", "2", "3", "7", "0.5", "10", "1/3", "2**(1/2)", "10**40", "10**(-40)", "3**(2/3)", "0", "(-2)")
NORMS = ("rownorm(W1)", "colnorm(W2)", "abs(b1)", "b1**2", "W1", "rownorm(W2)", "abs(W1)")
POWERS = ("2", "(1/2)", "(-1)", "3", "(1/3)", "8")


def drawn(rng: random.Random, depth: int) -> str:
    """A side of a fix line, of all that the grammar has but sums of norms, on which sympy may work for long."""
    way = rng.random()
    if depth == 0 or way < 0.3:
        return rng.choice(NUMBERS if rng.random() < 0.4 else NORMS[:4] if rng.random() < 0.9 else NORMS)
    if way < 0.7:
        return f"({drawn(rng, depth - 1)} {rng.choice('*/')} {drawn(rng, depth - 1)})"
    if way < 0.8:
        return f"({rng.choice(NUMBERS)} {rng.choice('+-')} {rng.choice(NUMBERS)})"
    if way < 0.95:
        return f"({drawn(rng, depth - 1)})**{rng.choice(POWERS)}"
    return f"-{drawn(rng, depth - 1)}"


def test_any_fix_line_runs_or_is_refused_with_its_place() -> None:
    rng, ran = random.Random(0), 0
    for _ in range(50):
        fix = f"{drawn(rng, 2)} * {rng.choice(['rownorm(W1)', '1'])} == colnorm(W2) * {drawn(rng, 1)}"
        try:
            gauge = compiled(fix)
        except GaugeError as refused:
            assert refused.span is not None and refused.span.line == PLACE[0], (fix, refused)
            continue
        torch.manual_seed(0)
        model = handmade.MLP(SIZES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what has no canonical form is said
            optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-4)
        model(*numbers()).backward()
        optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters()), fix
        ran += 1
    assert ran >= 12
