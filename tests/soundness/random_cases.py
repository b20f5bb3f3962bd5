"""Random gauges: formulas, operators, groups and actions drawn by chance, a part of them true on purpose.

`case(seed)` is a text.  Three ways to make one, so that the mix is healthy:
- *typed*: a formula is grown from what is kept down to its leaves, each part carrying how it is to move (times c^q
  along the group's axis, turned on its left or right), and every leaf's action follows from that.  A slip on the way,
  with a small probability at each step (an operator without the law, a wrong exponent or side, a forgotten action),
  makes a false gauge that looks true;
- *shifted*: translations, and formulas that forget some of them;
- *wild*: any formula of the right shapes, and any actions.

Nothing here knows which are true.  Shapes are mostly right; what the language refuses is drawn again.
"""

from __future__ import annotations

import random

from soundness.drafts import SCALES, TURNS, Draft
from soundness.other_cases import shifted, wild
from soundness.typed_cases import scaled, turned
from soundness.writing import checked

from gaugec.language import tree as t


def draft(seed: int, way: float) -> tuple[str, str]:
    """One text, perhaps malformed, and the way in which it was made."""
    rng = random.Random(seed)
    if way < 0.27:
        d = Draft(rng, rng.choice(SCALES))
        shape = rng.choice((("n", "e"), ("n", "e"), ("n", "d"), ("n",), ("n", "k")))
        keeps, made = ("y",), "typed scale"
        d.models.append(("y", scaled(d, shape, "0", rng.choice((2, 2, 2, 3)))))
    elif way < 0.54:
        d = Draft(rng, rng.choice(TURNS))
        shape = rng.choice((("n", "e"), ("n", "e"), ("n", "d"), ("n",)))
        keeps, made = ("y",), "typed rotation"
        d.models.append(("y", turned(d, shape, rng.choice((2, 2, 2, 3)))))
    elif way < 0.62:
        (d, keeps), made = shifted(rng), "shift"
    else:
        (d, keeps), made = wild(rng), "wild"
    if made.startswith("typed"):
        if rng.random() < 0.25:
            d.models.append(("z", f"{d.pick('softmax', 'relu', 'tanh', '2 *', 'layer_norm')}(y)"))
            keeps = rng.choice((("z",), ("y", "z")))
        if d.actions and rng.random() < 0.12:
            d.actions.pop(rng.choice(sorted(d.actions)))
        for name in d.params:
            if rng.random() < 0.1 and len(d.params[name]) == 1:
                d.marks[name] = "?"
    return (d.text(keeps) if d.actions else ""), made


def case(seed: int) -> tuple[str, str, t.Gauge, int]:
    """The first well-formed draft of a seed: its text, how it was made, the checked gauge, how many were drawn."""
    tries, way = 0, random.Random(seed).random()
    while True:
        tries += 1
        text, made = draft(seed * 1000 + tries, way)
        gauge = checked(text) if text else None
        if gauge is not None:
            return text, made, gauge, tries
