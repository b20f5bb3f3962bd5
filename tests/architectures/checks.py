"""What must hold of every architecture beside its row: sites that go by no name and no file, exact steps and copies.

What this module does not do: it makes no row; see `tests/architectures/rows.py`.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from match.test_renaming import plain, rename_model
from torch import nn

from architectures import build, copies
from architectures.least import LEAST
from architectures.rows import SHIPPED, Row, architecture, look
from architectures.training import STEPS, apart

EXACT = 1e-10


def sites(compiled: Any, names: Mapping[str, str]) -> list[Any]:
    """All that its sites are, in an order of their own; names: what its parameters are called here."""
    same = {site.gauge: site.gauge for site in compiled.sites}
    return sorted(plain(compiled, same, names), key=repr)


def scrambled(name: str) -> tuple[Any, dict[str, str]]:
    """The model under other names, compiled by its own file; new parameter name -> old one."""
    case = build(name)
    names = rename_model(case.model, random.Random(name), (nn.ModuleList, nn.ModuleDict))
    made = case.compiled(str(SHIPPED / f"{name}.gauge"))
    return made, {new: old for old, new in names.items()}


def fewer(row: Row) -> list[str]:
    """The gauges that have fewer sites than they must."""
    least = {gauge: count for gauge, count in LEAST[row.name].items() if row.sites.get(gauge, (0, 0))[0] < count}
    return [f"{row.name}: {gauge} has fewer than {count} sites" for gauge, count in least.items()]


def problems(row: Row, compiled: Any) -> list[str]:
    """What is wrong with an architecture, in words; nothing where it is as it must be."""
    wrong = fewer(row)
    if compiled is None:
        return wrong
    name = row.name
    if (SHIPPED / f"{name}.gauge").read_text(encoding="utf-8") != architecture(name, compiled):
        wrong.append(f"{name}: its file does not name the gauges that were found")
    other, names = scrambled(name)
    if sites(other, names) != sites(compiled, {each: each for each in names.values()}):
        wrong.append(f"{name}: other sites under other names, by its own file")
    if (distance := apart(compiled, build(name))) > EXACT:
        wrong.append(f"{name}: {distance:.0e} apart after {STEPS} steps")
    return wrong + [f"{name}: {text}" for text in copies.wrong(compiled, build(name))]


def examined(name: str, specs: bool, rows: bool) -> tuple[Row, list[str]]:
    """The row of an architecture, and what is wrong with it.

    specs: its file is written anew before it is checked.  rows: of what may be wrong only the number of sites is seen.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    row, compiled = look(name)
    if specs and compiled is not None:
        (SHIPPED / f"{name}.gauge").write_text(architecture(name, compiled), encoding="utf-8")
    return row, fewer(row) if rows else problems(row, compiled)
