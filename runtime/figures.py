"""Figures of telemetry: what was looked at over the steps, a line for every site.

matplotlib is imported when a figure is asked for, and nowhere else.  Not here: what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

QUANTITIES = {
    "drift": "drift along the orbit since the start",
    "vertical": "vertical part of the way since the last look",
    "condition": "largest scale of the frame over the smallest",
}


def plot(history: Sequence[Mapping[str, Any]], quantity: str = "drift", path: Any = None) -> Any:
    """A matplotlib figure of one quantity of `Telemetry.history` over the steps; a colour is a gauge, a line a site.

    quantity: "drift", "vertical" or "condition".  path: where to save it too, if anywhere.  Raises ImportError where
    matplotlib is missing, ValueError for another quantity, or no looks.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity is one of {', '.join(QUANTITIES)}, not {quantity!r}")
    if not history:
        raise ValueError("there is nothing to plot: telemetry has not looked yet")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("a figure needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    steps = [look["step"] for look in history]
    sites = list(history[-1][quantity])
    gauges = list(dict.fromkeys(_gauge(site) for site in sites))
    said: set[str] = set()
    for site in sites:
        gauge = _gauge(site)
        label = None if gauge in said else gauge
        said.add(gauge)
        axes.plot(steps, [look[quantity][site] for look in history], f"C{gauges.index(gauge)}", lw=1, label=label)
    axes.set(xlabel="step", ylabel=QUANTITIES[quantity])
    if sites:
        axes.legend(frameon=False)
    if path is not None:
        figure.savefig(path)
    return figure


def _gauge(site: str) -> str:
    return site.partition(" of ")[0]
