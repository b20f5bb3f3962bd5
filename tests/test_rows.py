"""A group is one row: no stage names one, and every row goes the whole way, or says in one place why it does not."""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import gaugec
import gaugec.runtime
from gaugec.groups import GROUPS, TABLE, Group
from gaugec.pipeline.compile import largest
from gaugec.runtime import DDCAdamW
from gaugec.sites import Binding, Move
from gaugec.witness.elements import element
from runtime import handmade

SOURCES = sorted(p for p in Path(gaugec.__file__).parent.rglob("*.py") if "specs" not in p.parts)


def test_no_stage_names_a_group() -> None:
    assert len(SOURCES) > 80
    for path in SOURCES:
        if path == Path(gaugec.__file__).parent / "groups.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in GROUPS, f"{path}:{node.lineno} names the group {node.value}"


def test_subgroups_are_rows_and_smaller() -> None:
    for row in TABLE:
        for name in row.subgroups:
            assert GROUPS[name].dimension(6) < row.dimension(6)
            assert set(GROUPS[name].subgroups) <= set(row.subgroups)


# --- a gauge and a model for every row ---------------------------------------------------------------------------
class Case(NamedTuple):
    """A gauge, whose element is called R, and a model in which it holds."""

    dims: str
    given: str
    param: str
    model: str
    actions: str
    keeps: str
    fix: str
    make: Callable[[], nn.Module]


def rope(x: Tensor) -> Tensor:
    """Rotary embedding of [batch, n, k], in halves."""
    n, k = x.shape[-2:]
    angle = torch.arange(n, dtype=x.dtype)[:, None] / torch.arange(1, k // 2 + 1, dtype=x.dtype)
    cos, sin = (torch.cat([t, t], -1) for t in (angle.cos(), angle.sin()))
    one, two = x.chunk(2, -1)
    return x * cos + torch.cat([-two, one], -1) * sin


class Model(nn.Module):
    """Two linear maps; what the forward does with them is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], sizes: tuple[int, int, int, int], bias: bool = True):
        super().__init__()
        self.one, self.two = nn.Linear(*sizes[:2], bias=bias), nn.Linear(*sizes[2:], bias=bias)
        self.run = forward

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def chain(bend: Callable[[Tensor], Tensor], bias: bool = True) -> Callable[[], nn.Module]:
    return functools.partial(Model, lambda m, x: m.two(bend(m.one(x))), (7, 5, 5, 4), bias)


def summed(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    hidden = m.one(x)
    return m.two(hidden), hidden.sum(-1)


def turned(m: Any, x: Tensor) -> Tensor:
    return torch.softmax(rope(m.one(x)) @ rope(m.two(x)).mT, -1) @ x


def classified(m: Any, x: Tensor) -> Tensor:
    target = (x[..., 0] > 0).long() + 2 * (x[..., 1] > 0).long()
    return nn.functional.cross_entropy(m.two(torch.tanh(m.one(x))).flatten(0, 1), target.flatten())


LINEAR = ("n, d, k, e", "x[n, d]", "A[k, d], b[k]?, B[e, k]")
ROPE = ("n, m, d, k", "x[n, d], z[m, d]", "Q[k, d], p[k]?, K[k, d], q[k]?")
SCORES = "s = rope(x @ Q.T + p) @ rope(z @ K.T + q).T"
TURN = "A -> R @ A; b -> R @ b; B -> B @ R.T"
CASES = {
    "positive": Case(
        *LINEAR,
        "y = relu(x @ A.T + b) @ B.T",
        "A -> diag(R) @ A; b -> R * b; B -> B @ diag(1/R)",
        "y",
        "rownorm(A) == colnorm(B)",
        chain(torch.relu),
    ),
    "positive_pairs": Case(
        *ROPE,
        SCORES,
        "Q -> diag(R) @ Q; p -> R * p; K -> diag(1/R) @ K; q -> 1/R * q",
        "s",
        "rownorm(Q) == rownorm(K)",
        functools.partial(Model, turned, (7, 8, 7, 8)),
    ),
    "translation": Case(
        "n, k, v",
        "h[n, k], t[n]",
        "U[v, k], b[v]?",
        "loss = cross_entropy(h @ U.T + b, t)",
        "U -> U + outer(ones(v), R)",
        "loss",
        "",
        functools.partial(Model, classified, (7, 5, 5, 4)),
    ),
    "orthogonal": Case(*LINEAR, "y = (x @ A.T + b) @ B.T", TURN, "y", "", chain(lambda x: x)),
    "orthogonal_ones": Case(
        *LINEAR,
        "y = (x @ A.T + b) @ B.T; s = (x @ A.T + b) @ ones(k)",
        TURN,
        "y, s",
        "",
        functools.partial(Model, summed, (7, 5, 5, 4)),
    ),
    "torus": Case(
        *ROPE,
        SCORES,
        "Q -> R @ Q; p -> R @ p; K -> R @ K; q -> R @ q",
        "s",
        "",
        functools.partial(Model, turned, (7, 8, 7, 8)),
    ),
    "invertible": Case(
        *LINEAR,
        "y = (x @ A.T + b) @ B.T",
        "A -> R @ A; b -> R @ b; B -> B @ inv(R)",
        "y",
        "",
        functools.partial(Model, lambda m, x: m.two(m.one(x)), (7, 5, 5, 6)),  # two is no narrower than the basis
    ),
}


def written(own: Case, group: str) -> str:
    """The text of a case's gauge."""
    lines = [f"gauge own({own.dims}):", '    "Of this row."', f"    given {own.given}", f"    param {own.param}"]
    lines += [f"    model {line}" for line in own.model.split("; ")]
    lines += [f"    for every R in {group}(k):", *(f"        {action}" for action in own.actions.split("; "))]
    return "\n".join([*lines, f"    keeps {own.keeps}", *([f"    fix {own.fix}"] if own.fix else [])]) + "\n"


@pytest.fixture(scope="module", params=list(GROUPS))
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("rows") / f"{request.param}.gauge"
    path.write_text(written(CASES[request.param], request.param), encoding="utf-8")
    return request.param, path


def data(step: int) -> Tensor:
    return torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def trained(model: nn.Module, gauge: Any, steps: int) -> Tensor:
    """Ten steps on a loss of everything that the model returns."""
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, frame_every=3)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        outputs = model(data(step))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = torch.stack([(x - 0.3).square().mean() for x in outputs]).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def test_every_row_has_a_case() -> None:
    assert list(CASES) == list(GROUPS)


def test_every_row_goes_the_whole_way(spec: tuple[str, Path]) -> None:
    """Verify, compile, witness, emit, load; ten steps from θ and from gθ end at gauge copies of each other."""
    group, path = spec
    assert gaugec.verify(path).ok
    torch.manual_seed(0)
    model = CASES[group].make().double()
    compiled = gaugec.compile(path, model, (data(0),))
    assert [(site.group, site.verdict) for site in compiled.sites] == [(group, "proved")]
    measured = compiled.witness(seed=3)
    assert measured.error <= 1e-10 and measured.control >= 1e-6 and measured.controls > 0
    compiled.save(path.with_suffix(".py"))
    gauge = gaugec.runtime.load(path.with_suffix(".py"))

    element = gauge.random_element(torch.Generator().manual_seed(1))
    other = copy.deepcopy(model)
    start = gauge.act(dict(model.named_parameters()), element)
    with torch.no_grad():
        for name, p in other.named_parameters():
            p.copy_(start[name])
    assert (other.one.weight - model.one.weight).norm() + (other.two.weight - model.two.weight).norm() > 0.1
    one, two = (trained(each, gauge, 10) for each in (model, other))
    assert ((one - two).abs() / one.abs()).max() <= 1e-10
    end = gauge.act(dict(model.named_parameters()), element)
    for name, p in other.named_parameters():
        assert torch.allclose(end[name], p, rtol=1e-9, atol=1e-9), name


# --- what follows from single columns ----------------------------------------------------------------------------
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_the_witness_draws_elements_of_the_group(row: Group) -> None:
    move = Move(row.kind)
    binding = Binding("A", "a", 0, ((2, 18),), ((6, 3),), ((3, 1),), move)
    pairs = {"pairing": "interleaved", "rotary": 4} if row.paired else {}
    site = handmade.site("own", 0, row.name, 2, 6, [binding], **pairs)
    one, two = (element(site, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.allclose(one, two, atol=1e-2) and not torch.allclose(one[0], one[1], atol=1e-2)
    if row.kind == "shift":
        assert one.shape == (2, 3) and site.width == 3
        return
    assert one.shape == ((2, 6) if row.kind == "scale" else (2, 6, 6)) and site.width == 6
    if row.kind == "scale":
        assert (one > 0).all()
        assert not row.paired or (torch.equal(one[:, 0:4:2], one[:, 1:4:2]) and (one[:, 4:] == 1).all())
        return
    eye = torch.eye(6, dtype=torch.float64)
    assert (torch.linalg.det(one).abs() > 1e-6).all()
    assert torch.allclose(one @ one.mT, eye.expand(2, 6, 6)) == row.transpose_inverts
    assert torch.allclose(one.sum(-1), torch.ones(2, 6, dtype=torch.float64)) == row.keeps_ones
    if row.transpose_inverts and not row.paired:
        assert set(torch.linalg.det(one).sign().tolist()) == {1.0, -1.0}
    if row.paired:
        assert torch.equal(one[:, 4:], eye[4:].expand(2, 2, 6)) and (one[:, 0, 2:] == 0).all()


def test_a_larger_group_replaces_its_subgroup() -> None:
    def site(group: str, index: int) -> Any:
        binding = Binding("A", "a", 0, (), ((4, 3),), ((3, 1),), Move("rotate"))
        return handmade.site("own", index, group, 1, 4, [binding])

    def kept(*groups: str) -> list[int]:
        return [each.index for each in largest([site(group, i) for i, group in enumerate(groups)])]

    assert kept("torus", "orthogonal", "torus") == [1]
    assert kept("orthogonal", "orthogonal") == [0]
    assert kept("orthogonal_ones", "torus") == [0, 1]  # neither is a subgroup of the other
    assert kept("orthogonal_ones", "torus", "orthogonal") == [2]
    assert kept("orthogonal", "invertible") == [1]


@pytest.mark.parametrize(
    ("group", "model", "message"),
    [
        ("orthogonal", "y = (x @ A.T + b) @ B.T", "the moved axis is summed away at aten.sum"),
        ("orthogonal_ones", "y = (x @ A.T + b) @ B.T", "the moved axis is summed at aten.sum, where the formula"),
    ],
)
def test_a_sum_is_kept_where_the_ones_are_and_the_formula_sums(
    group: str, model: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.gauge"
    path.write_text(written(CASES["orthogonal_ones"]._replace(model=model, keeps="y"), group), encoding="utf-8")
    with pytest.raises(gaugec.MatchError) as refused:
        gaugec.compile(path, CASES["orthogonal_ones"].make().double(), (data(0),))
    assert message in refused.value.message
