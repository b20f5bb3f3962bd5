"""What `gaugec new` begins a spec with: a gauge that is proved as it stands, with a comment on every line.

What this module does not do: it looks at no model (an architecture is written from what `auto` finds).
"""

from __future__ import annotations

_TEXT = """\
# {name}: what may be changed in the parameters without changing what is computed.
#   gaugec verify {name}.gauge                        proves every gauge of this file
#   gaugec compile {name}.gauge mymodel.py:factory    finds it in a model, and writes the optimizer's module
# docs/language.md has all words; `gaugec list` and `gaugec show NAME` show the gauges that ship.

gauge unit_scale(n, d, e, f):                   # the sizes that are spoken of, as small letters
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
    use unit_scale                              # of this file
    use norm_gain from norms optional           # of a file that ships; `optional`: a model need not have it
"""


def template(name: str) -> str:
    """The text of a new spec."""
    return _TEXT.format(name=name)


def commented(name: str, architecture: str, model: str) -> str:
    """The text of an architecture that was found in a model, with what may be done with it."""
    return (
        f"# What `gaugec compile auto {model}` found; every gauge is required, `optional` behind a line allows its "
        f"absence.\n#   gaugec compile {name}.gauge {model} -o {name}_gauge.py\n"
        "# Gauges of your own may stand above the architecture: docs/language.md, `gaugec new NAME`.\n\n" + architecture
    )


__all__ = ["commented", "template"]
