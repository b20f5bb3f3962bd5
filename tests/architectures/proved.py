"""Every gauge is proved once in a process: its proof does not depend on the model, nor on the spec that uses it.

What this module does not do: it proves nothing by itself, and a site's own proof on a model is made every time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from gaugec.language.tree import Entry, Spec
from gaugec.pipeline import compile as driver
from gaugec.pipeline.verify import Verification, verify


@functools.cache
def _alone(entry: Entry) -> Verification:
    return verify(Spec("", "", (entry,), ""))


def _together(spec: Spec) -> Verification:
    parts = [_alone(replace(entry, required=True)) for entry in spec.entries]
    theorems = tuple(theorem for part in parts for theorem in part.theorems)
    accepted = tuple(each for part in parts for each in part.accepted)
    operators = tuple(dict.fromkeys(operator for part in parts for operator in part.operators))
    return Verification(spec.name, theorems, accepted, operators, ("",) * len(theorems))


@contextmanager
def proved_once() -> Iterator[None]:
    """What is compiled inside proves no gauge a second time."""
    with mock.patch.object(driver, "verify", _together):
        yield
