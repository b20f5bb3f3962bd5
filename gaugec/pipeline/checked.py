"""Proved sites, looked at in numbers: the witness on the graph, and the gradient of the model itself.

A site that one of them contradicts stops the compilation; one from which nothing reaches an output, or whose gradient a
hook changes, is refused by itself.  What could not be looked at is said by every site.

What this module does not do: it finds and proves nothing (see `gaugec.pipeline.find`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gaugec.errors import MatchError
from gaugec.model.guest import Model
from gaugec.sites import Refusal, Site
from gaugec.tracing.trace import Trace
from gaugec.witness.finite import Witness, witness
from gaugec.witness.gradient import covariance
from gaugec.witness.interpreter import Runner


@dataclass(frozen=True)
class Checked:
    """What is left of the sites, each with what it was not checked by, and what was measured.

    why: for each check that was not made, why.
    """

    sites: tuple[Site, ...]
    refusals: tuple[Refusal, ...]
    measured: Witness
    why: tuple[str, ...]


def checked(
    model: Model, args: Sequence[Any], kwargs: Mapping[str, Any], traced: Trace, sites: Sequence[Site]
) -> Checked:
    """Looks at the sites of a model.

    Raises:
        MatchError: the witness contradicts a proof, or the gradient is not that of what was proved.
    """
    left, refusals = list(sites), []
    measured = _witnessed(traced, left)
    if measured.dead:
        # a site from which nothing reaches an output has nothing to prove, and its parameters nothing to learn
        reason = "no output depends on it, with these example inputs (do the tokens differ?)"
        refusals += [replace(_refused(left[number], reason), dead=True) for number in measured.dead]
        left = [site for number, site in enumerate(left) if number not in measured.dead]
        measured = _witnessed(traced, left)
    places = ((tuple(args), dict(kwargs)), *traced.gradients.inputs)
    by_hand = traced.gradients.python
    gradient = covariance(model, places, left, traced.names, traced.counted, traced.blocked, by_hand=by_hand)
    reason = "the gradient of {} is not that in a copy of the model: a hook of autograd changes it"
    for site in left:
        hooked = [binding.parameter for binding in site.bindings if binding.parameter in gradient.hooked]
        refusals += [_refused(site, reason.format(name)) for name in hooked[:1]]
    left = [site for site in left if all(binding.parameter not in gradient.hooked for binding in site.bindings)]
    reason = "a value that it moves is rounded to {}: two gauge copies differ by that"
    refusals += [_refused(s, reason.format(gradient.rounded[s.gauge])) for s in left if s.gauge in gradient.rounded]
    left = [site for site in left if site.gauge not in gradient.rounded]
    lacking = {"not witnessed": measured.note, "gradient not checked": gradient.why}
    what = ", ".join(check for check, why in lacking.items() if why)
    why = tuple(f"{check}: {why}" for check, why in lacking.items() if why)
    return Checked(tuple(replace(site, unchecked=what) for site in left), tuple(refusals), measured, why)


def _refused(site: Site, reason: str) -> Refusal:
    names = tuple(binding.parameter for binding in site.bindings)
    return Refusal(site.gauge, ", ".join(dict.fromkeys(names)), reason, "", site.place, False, True, names)


def _witnessed(traced: Trace, sites: Sequence[Site]) -> Witness:
    """The fifth condition of soundness.

    Raises:
        MatchError: an output changed that must not, or the control did not change it.
    """
    measured = witness(Runner(traced.program, traced.names, traced.counted), traced.shapes, sites)
    if measured.error > 1e-10:
        worst = max(measured.by_gauge, key=lambda pair: pair[1], default=("", 0.0))
        raise MatchError(
            f"the numeric witness contradicts the proof of {worst[0]}: outputs changed by {measured.error:.1e} "
            f"(control {measured.control:.1e})",
            help="this is a defect of gaugec or a graph that float64 cannot run faithfully; nothing was compiled",
        )
    return measured


__all__ = ["Checked", "checked"]
