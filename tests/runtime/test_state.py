"""State goes by the names of parameters and by the gauge, or it is refused with the differences in words."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from gaugec.runtime import DDCAdamW, Gauge, gauge
from gaugec.runtime.rules.adamw import ADAMW
from runtime import handmade

SETTINGS: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1, "frame_every": 3}


@pytest.fixture(scope="module")
def compiled() -> Gauge:
    torch.manual_seed(0)
    return handmade.compiled(handmade.Llama(), handmade.llama_sites())


def llama(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return handmade.Llama().to(dtype)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for number in steps:
        optimizer.zero_grad()
        loss = model(handmade.tokens(number))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def started(compiled: Gauge, steps: int = 4, **settings: Any) -> tuple[nn.Module, DDCAdamW]:
    model = llama()
    optimizer = DDCAdamW(model.named_parameters(), compiled, **{**SETTINGS, **settings})
    train(model, optimizer, range(steps))
    return model, optimizer


def refused(optimizer: DDCAdamW, state: dict[str, Any], message: str) -> None:
    """The whole message, and nothing was changed."""
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert before["param_groups"] == after["param_groups"] and before["state"].keys() == after["state"].keys()
    assert all(batch.step == 0 for batch in optimizer.batches)


ORDERS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "reversed": lambda pairs: pairs[::-1],
    "sorted": lambda pairs: sorted(pairs, key=lambda pair: pair[0]),
    "equal shapes change places": lambda pairs: [*pairs[:1], *sorted(pairs[1:], key=lambda pair: pair[0][::-1])],
    "wrapped": lambda pairs: [(f"module._orig_mod.{name}", p) for name, p in pairs],
    "of Lightning": lambda pairs: [(f"model.{name}", p) for name, p in pairs],
    "checkpointed": lambda pairs: [(name.replace(".", "._checkpoint_wrapped_module.", 1), p) for name, p in pairs],
}


@pytest.mark.parametrize("order", ORDERS)
def test_names_in_another_order_train_alike(compiled: Gauge, order: str) -> None:
    model, optimizer = started(compiled)
    other = copy.deepcopy(model)
    resumed = DDCAdamW(ORDERS[order](list(other.named_parameters())), compiled, **SETTINGS)
    names = resumed.param_groups[0]["param_names"]
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.param_groups[0]["param_names"] == names
    assert train(model, optimizer, range(4, 9)) == train(other, resumed, range(4, 9))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters()))


def test_state_of_another_gauge_is_refused(compiled: Gauge) -> None:
    _, optimizer = started(compiled)
    other = handmade.compiled(llama(), handmade.llama_sites()[:-1])
    refused(
        DDCAdamW(llama().named_parameters(), other),
        optimizer.state_dict(),
        f"this state is of another compiled gauge: its hash is {gauge.code_hash(compiled)[:16]}, this gauge's is "
        f"{gauge.code_hash(other)[:16]}. Load it with the compiled file that it was trained with",
    )


def test_state_of_adamw_is_taken_over(compiled: Gauge) -> None:
    """Its moments are those of the gradients: from θ and from gθ the training goes on as copies."""
    model = llama()
    element = {
        key: {n: x for n, x in each.items() if compiled.components[int(key.split(".")[0])].by_name[n].framed}
        for key, each in compiled.random_element(torch.Generator().manual_seed(1)).items()
    }
    theirs = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    train(model, theirs, range(3))
    resumed = DDCAdamW(model.named_parameters(), compiled, **SETTINGS)
    resumed.load_state_dict(theirs.state_dict())
    assert {batch.step for batch in resumed.batches} == {3}
    assert resumed.param_groups[0]["lr"] == 1e-2
    number = resumed.param_groups[0]["param_names"].index("layers.0.gate.weight")
    (first,) = [one for batch in resumed.batches for one in batch.parts() if one.keys == ["1.0"]]
    assert first.frame is not None
    moments = {slot: theirs.state[p[0]]["exp_avg"][None] for slot, p in first.slots.items()}
    pulled = first.component.pull(moments, first.frame)
    assert all(torch.equal(pulled[slot], x) for slot, x in first.state["exp_avg"].items())
    assert number in resumed.state_dict()["state"]
    other = handmade.moved(model, compiled, element)
    twin = torch.optim.AdamW(other.parameters(), lr=1e-2, weight_decay=0.1)
    twin.load_state_dict(theirs.state_dict())
    moved(compiled, element, dict(model.named_parameters()), theirs, dict(other.named_parameters()), twin)
    again = DDCAdamW(other.named_parameters(), compiled, **SETTINGS)
    again.load_state_dict(twin.state_dict())
    one, two = train(model, resumed, range(3, 9)), train(other, again, range(3, 9))
    assert one == pytest.approx(two, rel=1e-12)


def moved(
    compiled: Gauge, element: Any, params: dict[str, Any], theirs: Any, others: dict[str, Any], twin: Any
) -> None:
    """Give a plain optimizer the moments that it would have at parameters that scales have moved."""
    factor = compiled.act({name: torch.ones_like(p) for name, p in params.items()}, element)
    for name, p in params.items():
        twin.state[others[name]]["exp_avg"] = theirs.state[p]["exp_avg"] / factor[name]
        twin.state[others[name]]["exp_avg_sq"] = theirs.state[p]["exp_avg_sq"] / factor[name] ** 2


def test_state_of_an_optimizer_without_these_moments_is_refused(compiled: Gauge) -> None:
    model = llama()
    sgd = torch.optim.SGD(model.named_parameters(), momentum=0.9)
    train(model, sgd, range(1))
    refused(
        DDCAdamW(model.named_parameters(), compiled),
        sgd.state_dict(),
        "this state is not of an optimizer with the same compiled gauge, it has none; and layers.0.norm1.weight has no "
        "exp_avg of its shape, so that it cannot be taken over as the state of one of torch",
    )


def test_largest_second_moments_are_not_dropped_unsaid(compiled: Gauge) -> None:
    model = llama()
    theirs = torch.optim.AdamW(model.named_parameters(), amsgrad=True)
    train(model, theirs, range(1))
    state, optimizer = theirs.state_dict(), DDCAdamW(model.named_parameters(), compiled)
    refused(
        optimizer,
        state,
        "this state has max_exp_avg_sq of layers.0.norm1.weight, which is not kept here (amsgrad=True keeps "
        "max_exp_avg_sq): take it out of the state's entries to go on without",
    )
    for entries in state["state"].values():
        del entries["max_exp_avg_sq"]
    optimizer.load_state_dict(state)


@pytest.mark.parametrize(
    "change",
    [
        {"state": {0: None}},
        {"state": {0: {"gauge": None}}},
        {"state": {0: {"gauge": {"norm_gain": None}}}},
        {"state": {0: {"step": -1}}},
        {"state": {0: {"step": "1"}}},
        {"state": {0: {"gauge": {"norm_gain": {"live": torch.ones(1), "scale": [1.0]}}}}},
        {"state": {0: {"gauge": {"norm_gain": {"live": torch.ones(1, 12)}}}}},
        {"param_groups": None},
        {"param_groups": [{"param_names": ["embed.weight"], "params": [0, 1]}]},
        {"state": None},
    ],
)
def test_damaged_state_is_refused(compiled: Gauge, change: dict[str, Any]) -> None:
    _, optimizer = started(compiled)
    message = "this state is damaged: it is not what state_dict returns"
    refused(DDCAdamW(llama().named_parameters(), compiled), {**optimizer.state_dict(), **change}, message)


def test_entries_that_are_no_tensors_are_refused(compiled: Gauge) -> None:
    _, optimizer = started(compiled)
    state = optimizer.state_dict()
    number = optimizer.param_groups[0]["param_names"].index("embed.weight")
    state["state"][number] = {**state["state"][number], "exp_avg": 0.0}
    message = "this state does not fit the optimizer: embed.weight has entries that are no tensors"
    refused(DDCAdamW(llama().named_parameters(), compiled), state, message)


def test_a_group_that_was_added_goes_with_the_state(compiled: Gauge) -> None:
    model, optimizer = started(compiled)
    extra = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer.add_param_group({"params": [("extra", extra)], "lr": 0.5})
    extra.grad = torch.ones_like(extra)
    optimizer.step()
    twin, again = copy.deepcopy((model, optimizer))
    optimizer.load_state_dict(optimizer.state_dict())
    assert train(model, optimizer, range(4, 6)) == train(twin, again, range(4, 6))
    with pytest.raises(ValueError, match=r"^two parameters have the name extra, as extra and as _orig_mod\.extra$"):
        optimizer.add_param_group({"params": [("_orig_mod.extra", nn.Parameter(torch.ones(3)))]})
    assert len(optimizer.param_groups) == 2


def test_other_parameters_are_named(compiled: Gauge) -> None:
    _, optimizer = started(compiled)
    pairs = [("embedding.weight" if n == "embed.weight" else n, p) for n, p in llama().named_parameters()]
    refused(
        DDCAdamW(pairs, compiled),
        optimizer.state_dict(),
        "this state has other parameters: it has no embedding.weight; embed.weight, which the optimizer was not given",
    )


def test_state_without_names_is_refused(compiled: Gauge) -> None:
    model, optimizer = started(compiled)
    state = optimizer.state_dict()
    del state["param_groups"][0]["param_names"]
    refused(
        DDCAdamW(llama().named_parameters(), compiled),
        state,
        "this state has no names of parameters: it cannot be matched to the optimizer's",
    )


def halves(model: nn.Module, *settings: dict[str, Any]) -> list[dict[str, Any]]:
    pairs = list(model.named_parameters())
    return [{"params": pairs[i :: len(settings)], **each} for i, each in enumerate(settings)]


def test_groups_with_equal_settings_may_be_divided_anew(compiled: Gauge) -> None:
    model, optimizer = started(compiled)
    other = copy.deepcopy(model)
    resumed = DDCAdamW(halves(other, {"lr": 1.0}, {"lr": 2.0}, {}), compiled, **SETTINGS)
    resumed.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in resumed.param_groups] == [1e-2] * 3
    for number in range(4, 8):
        (one,), (two,) = (
            train(model, optimizer, range(number, number + 1)),
            train(other, resumed, range(number, number + 1)),
        )
        assert abs(one - two) < 1e-12


def test_groups_with_settings_of_their_own_are_not_divided_anew(compiled: Gauge) -> None:
    model = llama()
    optimizer = DDCAdamW(halves(model, {"lr": 1e-2}, {"lr": 1e-3}), compiled)
    train(model, optimizer, range(2))
    other = llama()
    first, second, *rest = other.named_parameters()
    refused(
        DDCAdamW(
            [{"params": [second, *rest[::2]], "lr": 1e-2}, {"params": [first, *rest[1::2]], "lr": 1e-3}], compiled
        ),
        optimizer.state_dict(),
        "the saved groups have different settings, and the parameters are divided among them in another way: "
        f"{second[0]} is in group 0, was in 1; {first[0]} is in group 1, was in 0",
    )
    again = DDCAdamW([{**each, "params": each["params"][::-1]} for each in halves(other, {}, {})], compiled)
    again.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in again.param_groups] == [1e-2, 1e-3]


def test_state_before_any_step(compiled: Gauge) -> None:
    model, optimizer = started(compiled, steps=0)
    other = copy.deepcopy(model)
    resumed = DDCAdamW(list(other.named_parameters())[::-1], compiled, **SETTINGS)
    train(other, resumed, range(2))  # what it learned meanwhile is forgotten
    with torch.no_grad():
        for p, q in zip(other.parameters(), model.parameters()):
            p.copy_(q)
    resumed.load_state_dict(optimizer.state_dict())
    assert train(model, optimizer, range(5)) == train(other, resumed, range(5))


def test_another_pooling_is_refused(compiled: Gauge) -> None:
    _, optimizer = started(compiled, pooling=False)
    resumed = DDCAdamW(llama().named_parameters(), compiled)
    with pytest.raises(
        ValueError,
        match=r"^this state does not fit the optimizer: layers\.0\.q\.weight: exp_avg_sq has the shape \(24, 12\), "
        r"here \(144,\); was it saved with another `pooling`, or of another model\?; layers\.0\.k\.weight: ",
    ):
        resumed.load_state_dict(optimizer.state_dict())


def test_another_rule_is_refused(compiled: Gauge) -> None:
    _, optimizer = started(compiled)
    state = optimizer.state_dict()
    number = optimizer.param_groups[0]["param_names"].index("embed.weight")
    state["state"][number] = {"step": torch.tensor(4.0), "momentum": torch.zeros(17, 12)}
    refused(
        DDCAdamW(llama().named_parameters(), compiled),
        state,
        "this state does not fit the optimizer: embed.weight has momentum, step, and not exp_avg, exp_avg_sq, step",
    )


def test_what_was_frozen_has_no_state(compiled: Gauge) -> None:
    model = llama()
    model.layers[0].norm1.weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="1 gauges are off"):
        optimizer = DDCAdamW(model.named_parameters(), compiled)
    train(model, optimizer, range(2))
    refused(
        DDCAdamW(llama().named_parameters(), compiled),
        optimizer.state_dict(),
        "this state does not fit the optimizer: the gauge 0.0.norm_gain was off when the state was saved, and is in "
        "force now; layers.0.norm1.weight has no state: it was frozen when the state was saved",
    )


def test_what_is_frozen_now_keeps_its_gauge_off(compiled: Gauge) -> None:
    model, optimizer = started(compiled)
    model.layers[0].norm1.weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="1 gauges are off"):
        resumed = DDCAdamW(model.named_parameters(), compiled, **SETTINGS)
    resumed.load_state_dict(optimizer.state_dict())
    assert torch.equal(resumed.frames["0.0"].scales["norm_gain"], torch.ones(1, 1, 12, dtype=torch.float64))
    before = model.layers[0].norm1.weight.clone()
    train(model, resumed, range(4, 8))
    assert torch.equal(before, model.layers[0].norm1.weight)
    again = DDCAdamW.__new__(DDCAdamW)
    again.__setstate__(resumed.__getstate__())
    assert again.inactive == ["0.0.norm_gain: layers.0.norm1.weight frozen"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_moves_between_dtypes(compiled: Gauge, dtype: torch.dtype) -> None:
    model, optimizer = started(compiled)
    other = copy.deepcopy(model).to(dtype)
    resumed = DDCAdamW(other.named_parameters(), compiled, **SETTINGS)
    resumed.load_state_dict(optimizer.state_dict())
    assert {x.dtype for batch in resumed.batches for each in batch.state.values() for x in each.values()} == {
        torch.float32
    }
    assert resumed.state[other.embed.weight]["exp_avg"].dtype == dtype
    want, have = train(model, optimizer, range(4, 7)), train(other, resumed, range(4, 7))
    assert all(abs(one - two) < (1e-4 if dtype == torch.float32 else 0.1) for one, two in zip(want, have))


def test_hooks_see_everything_and_may_change_it(compiled: Gauge) -> None:
    model, optimizer = started(compiled)
    other = copy.deepcopy(model)
    resumed = DDCAdamW(other.named_parameters(), compiled, **SETTINGS)
    seen: list[str] = []

    def save(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        assert any("gauge" in entries for entries in state["state"].values())
        assert all("gauge_hash" in group for group in state["param_groups"])
        return {"packed": state}

    def unpack(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        return dict(state["packed"])

    optimizer.register_state_dict_post_hook(save)
    resumed.register_load_state_dict_pre_hook(unpack)
    resumed.register_load_state_dict_post_hook(lambda o: seen.extend(str(batch.step) for batch in o.batches))  # type: ignore[attr-defined]
    resumed.load_state_dict(optimizer.state_dict())
    assert seen == ["4"] * len(resumed.batches)
    assert train(model, optimizer, range(4, 6)) == train(other, resumed, range(4, 6))


def test_schedulers_go_on(compiled: Gauge) -> None:
    model, optimizer = started(compiled, steps=0)

    def scheduled(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.OneCycleLR:
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-2, total_steps=12)

    def run(model: nn.Module, optimizer: DDCAdamW, scheduler: Any, steps: range) -> list[float]:
        losses = []
        for number in steps:
            losses += train(model, optimizer, range(number, number + 1))
            scheduler.step()
        return losses

    scheduler = scheduled(optimizer)
    run(model, optimizer, scheduler, range(5))
    other = copy.deepcopy(model)
    resumed = DDCAdamW(list(other.named_parameters())[::-1], compiled, **SETTINGS)
    again = scheduled(resumed)
    resumed.load_state_dict(optimizer.state_dict())
    again.load_state_dict(scheduler.state_dict())
    assert run(model, optimizer, scheduler, range(5, 10)) == run(other, resumed, again, range(5, 10))


def test_the_hash_is_of_the_code_alone(compiled: Gauge) -> None:
    other = handmade.compiled(llama(), handmade.llama_sites())
    assert gauge.code_hash(other) == gauge.code_hash(compiled)

    class Text:
        def __init__(self, source: str) -> None:
            self.source = source

    base = '"""Doc."""\nMETADATA: dict = {"made": 1}\nCOMPONENTS = (1, "w")  # note\n'
    same = '"""Else."""\n\n\nCOMPONENTS = (1,   "w")\nMETADATA = {"made": 2}\n'
    assert gauge.code_hash(Text(base)) == gauge.code_hash(Text(same))
    for other_text in (base.replace('"w"', '"v"'), base.replace("(1,", "(1.0,"), base + "f = len\n"):
        assert gauge.code_hash(Text(base)) != gauge.code_hash(Text(other_text))


def test_a_gauge_without_source_is_told_by_its_tables(compiled: Gauge) -> None:
    class Bare:
        def __init__(self, whole: Gauge, count: int) -> None:
            self.components, self.places, self.parameters = whole.components[:count], whole.places, whole.parameters

    bare = Bare(compiled, 9)
    model = llama()
    optimizer = DDCAdamW(model.named_parameters(), bare, **SETTINGS)
    train(model, optimizer, range(2))
    assert gauge.code_hash(bare) != gauge.code_hash(compiled) != gauge.code_hash(Bare(compiled, 1))
    resumed = DDCAdamW(model.named_parameters(), Bare(compiled, 9), **SETTINGS)
    resumed.load_state_dict(optimizer.state_dict())
    with pytest.raises(TypeError, match="can be copied only when its gauge has its source"):
        copy.deepcopy(optimizer)


def test_the_rule_says_what_is_kept(compiled: Gauge) -> None:
    _, optimizer = started(compiled, steps=1)
    state = optimizer.state_dict()["state"]
    assert all(set(entries) - {"gauge"} == {"step", *ADAMW.state} for entries in state.values())
