"""What an eager step on a pinned orbit goes through where a rule goes by matrices: parameters that step together.

Not here: which parameters there are; the other rules, see `panel`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from gaugec.runtime.batch import Batch
from gaugec.runtime.chart import Coordinates
from gaugec.runtime.matrices import Charted, Layout, advance, together
from gaugec.runtime.rules.rule import Settings
from gaugec.runtime.stepper import RuleOf, gradient

Member = tuple[Batch, int, str, Coordinates]


class Lot:
    """Tensors of some places: batch, number in it, slot, and chart; they share a group and a number of steps."""

    def __init__(self, rule_of: RuleOf, members: Sequence[Member], layouts: Mapping[int, Layout]) -> None:
        self.rule_of, self.members, self.layouts = rule_of, members, layouts

    def step(self, groups: Sequence[Settings]) -> None:
        """Step them all."""
        batch, _, slot, _ = self.members[0]
        group = groups[batch.groups[slot]]
        rule, pieces = self.rule_of(group), []
        for each, j, slot, chart in self.members:
            p = each.slots[slot][j]
            state = {name: each.state[name][slot][j] for name in rule.state}
            pieces.append(Charted(p, gradient(p, group), state, chart, self.layouts[id(p)]))
        advance(rule, group, pieces, batch.step)


def lots(rule_of: RuleOf, members: Sequence[Member], layouts: Mapping[int, Layout]) -> list[Lot]:
    """Members of one group and number of steps, as many as are stepped at a time."""
    params: list[Tensor] = [batch.slots[slot][j] for batch, j, slot, _ in members]
    some = together([layouts[id(p)] for p in params], params)
    return [Lot(rule_of, [members[i] for i in numbers], layouts) for numbers in some]
