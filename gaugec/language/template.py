"""What a new spec may be called, and what `gaugec new` begins it with: a gauge that is proved as it stands.

What this module does not do: it looks at no model (an architecture is written from what `auto` finds).
"""

from __future__ import annotations

from gaugec.errors import printable
from gaugec.language.load import NAME, topics
from gaugec.language.messages import RESERVED

_COMMENTS = 48  # the column in which they stand
_TEXT = """\
# {name}: what may be changed in the parameters without changing what is computed.
#   gaugec verify {name}.gauge                        proves every gauge of this file
#   gaugec compile {name}.gauge mymodel.py:factory    finds it in a model, and writes the optimizer's module
# docs/language.md has all words; `gaugec list` and `gaugec show NAME` show the gauges that ship.

{gauge}# the sizes that are spoken of, as small letters
    "A ReLU unit may be scaled on the way in and unscaled on the way out."

    given  x[n, d]                              # what the gauge does not move: inputs, targets, masks
    param  W1[f, d], b1[f]?, W2[e, f]           # what it moves; `?`: a model may lack it; `each`: one or many
    model  h = relu(x @ W1.T + b1)              # the formula that is looked for; every line begins with `model`
    model  y = h @ W2.T

    for every c in positive(f):                 # the group, and what an element does to every parameter
        W1 -> diag(c) @ W1
        b1 -> c * b1
        W2 -> W2 @ diag(1/c)

    keeps  y                                    # what must not change
    fix    rownorm(W1) == colnorm(W2)           # one point of every orbit, for groups that are not compact

architecture {name}:
    "What this file is for, in a sentence."
{use}# of this file
    use norm_gain from norms optional           # of a file that ships; `optional`: a model need not have it
"""


def unfit(name: str) -> str | None:
    """Why a new spec, and the architecture in it, cannot be called so; None where it can."""
    if not NAME.fullmatch(name):
        return f"'{printable(name)}' is no name of the language: a letter, then letters, digits and _"
    if name in RESERVED:
        return f"'{name}' is a word of the language and cannot be a name"
    if name in topics():
        return f"'{name}' is a file of gauges that ships: `use … from {name}` would find this one in its place"
    return None


def template(name: str) -> str:
    """The text of a new spec; `name` is not unfit."""
    lines = {"gauge": f"gauge {name}_rescale(n, d, e, f):", "use": f"    use {name}_rescale"}
    return _TEXT.format(name=name, **{key: line.ljust(_COMMENTS - 1) + " " for key, line in lines.items()})


def commented(name: str, architecture: str, model: str) -> str:
    """The text of an architecture file that was found in a model, with what may be done with it."""
    return (
        f"# The gauges that ship and that were found in {printable(model)}.\n"
        "# Each is required; `optional` at the end of a line lets a model lack what the line names.\n"
        f"#   gaugec compile {name}.gauge {printable(model)} -o {name}_gauge.py\n"
        "# Gauges of your own may stand above the architecture: docs/language.md, `gaugec new`.\n\n" + architecture
    )


__all__ = ["commented", "template", "unfit"]
