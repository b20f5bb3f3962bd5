"""Which outputs of a model count in training, and what becomes of the first of them.

A model may return more than what is trained on (logits beside a loss, a cache): a gauge has to keep only what counts.

What this module does not do: it does not know what is trained on; that is the caller's word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gaugec.errors import MatchError, printable
from gaugec.model.interfaces import leaves, tree_unflatten

Name = str | int


@dataclass(frozen=True)
class Counted:
    """What counts of what a model returns.

    names: keys, names of fields, or indices, of the structure that it returns; () for all of it.
    loss: "cross_entropy" where the first that counts is logits that reach one and nothing else.
    """

    names: tuple[Name, ...] = ()
    loss: str | None = None

    def of(self, made: Any) -> list[Any]:
        """Everything that counts in what the model returned, however nested, in order.

        Raises:
            MatchError: it returned nothing of one of the names.
        """
        if not self.names:
            return _leaves(made)
        return [x for name in self.names for x in _leaves(_part(made, name))]

    def places(self, structure: Any, count: int) -> list[int]:
        """Which of the `count` leaves of a structure of `torch.utils._pytree` count, in order.

        Raises:
            MatchError: as above.
        """
        return list(range(count)) if not self.names else self.of(tree_unflatten(list(range(count)), structure))


EVERY = Counted()


def counted(outputs: object, loss: str | None = None) -> Counted:
    """What a caller says: None for all outputs, a name or an index, or several.

    Raises:
        MatchError: it is none of these.
    """
    names = (outputs,) if isinstance(outputs, str | int) else outputs
    if names is None:
        return Counted((), loss)
    wanted = tuple(names) if isinstance(names, Sequence) else ()
    if not wanted or any(type(name) not in (str, int) for name in wanted) or len(set(wanted)) != len(wanted):
        raise MatchError(
            f"outputs={printable(repr(outputs))[:80]} names no outputs",
            help='give a name or an index of what the model returns, or several: outputs="loss", outputs=["logits", 1]',
        )
    return Counted(wanted, loss)


def named(made: Any) -> dict[Name, Any]:
    """The parts of what a model returned, by the names by which they may be chosen."""
    if isinstance(made, Mapping):
        return {key if type(key) in (str, int) else str(key): value for key, value in made.items()}
    if isinstance(made, tuple | list):
        return dict(enumerate(made))
    return {0: made}


def _part(made: Any, name: Name) -> Any:
    parts = named(made)
    if name in parts:
        return parts[name]
    if isinstance(name, int) and 0 <= name < len(parts) and not any(isinstance(part, int) for part in parts):
        return list(parts.values())[name]  # by place, where no key is a number itself
    if isinstance(name, str) and name.isdecimal() and int(name) in parts:  # as the command line says it
        return parts[int(name)]
    if name in getattr(made, "_fields", ()) or name in getattr(made, "__dataclass_fields__", ()):
        return getattr(made, str(name))  # of a named tuple or a dataclass; what is computed of them is no output
    hint = "; a transformers model returns its loss where it is given labels=..." if name == "loss" else ""
    raise MatchError(
        f"the model returns no output {name if isinstance(name, int) else printable(repr(name))}",
        help=f"it returns {', '.join(str(part) for part in parts)}{hint}",
    )


def _leaves(made: Any) -> list[Any]:
    return leaves(dict(made) if isinstance(made, Mapping) else made)


__all__ = ["EVERY", "Counted", "Name", "counted", "named"]
