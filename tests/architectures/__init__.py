"""Small real models of many architectures: `build(name)` is one of them with random weights and example inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from seeds import set_seed

from architectures import adapters, convolutions, decoders, encoders, experts, images, perceptrons, recurrent
from architectures.case import Case, randomised

_MODELS: Mapping[str, Callable[[], Case]] = {
    **perceptrons.MODELS,
    **decoders.MODELS,
    **experts.MODELS,
    **encoders.MODELS,
    **images.MODELS,
    **convolutions.MODELS,
    **recurrent.MODELS,
    **adapters.MODELS,
}


def names() -> list[str]:
    """Every architecture that `build` knows, by families."""
    return list(_MODELS)


def build(name: str, seed: int = 0) -> Case:
    """A fresh model in train mode, float32, with inputs on which it runs."""
    set_seed(seed)
    case = _MODELS[name]()
    randomised(case.model)
    return case
