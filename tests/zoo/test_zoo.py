"""The zoo in a reduced form, on seeds that no threshold was chosen on; and the page that the whole zoo writes."""

from dataclasses import replace

import pytest
import torch

from houndsight.records.rules.table import BY_NAME

from ..house.tree import ROOT
from .everything import base
from .faults import FAULTS, Fault
from .healthy import healthy
from .page import LEARNT, page, results
from .watched import watched

FRESH = 3
"""A seed that the whole zoo does not use."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def named(fault: Fault, architecture: str, epochs: int | None = None) -> bool:
    run = fault.plant(base(architecture, FRESH))
    outcome = watched(run if epochs is None else run.but(epochs=epochs))
    return bool(outcome.fired("info" if fault.rules == ("label_suspects",) else "warning") & set(fault.rules))


def fault(name: str) -> Fault:
    return next(each for each in FAULTS if each.name == name)


@pytest.mark.parametrize(
    ("name", "architecture"), [("ReLU on the logits", "residual"), ("softmax before cross-entropy", "plain")]
)
def test_the_mistakes_of_public_projects_are_named_in_the_first_epoch(name: str, architecture: str) -> None:
    assert named(fault(name), architecture, epochs=1)


def test_a_healthy_run_raises_no_alarm() -> None:
    outcome = watched(replace(base("residual", FRESH), epochs=3))
    assert outcome.fired() == set()
    assert outcome.accuracy > LEARNT


@pytest.mark.slow
@pytest.mark.parametrize("place", range(0, len(FAULTS), 3), ids=lambda place: FAULTS[place].name)
def test_a_third_of_the_mistakes_on_a_fresh_seed(place: int) -> None:
    assert named(FAULTS[place], ("residual", "plain")[place % 2])


@pytest.mark.slow
def test_further_healthy_runs_raise_no_alarm() -> None:
    for run in healthy(136)[130:]:
        outcome = watched(run)
        assert outcome.accuracy < LEARNT or not outcome.fired(), run


def test_the_page_is_what_rules_and_zoo_say() -> None:
    assert (ROOT / "docs" / "rules.md").read_text(encoding="utf-8") == page(results()), "type `make zoo`"


def test_the_last_whole_zoo_reached_what_was_asked() -> None:
    found = results()
    healthy_runs = [each for each in found if each["kind"] == "healthy" and each["accuracy"] >= LEARNT]
    assert len(healthy_runs) >= 100
    for rule in BY_NAME:
        alarms = sum(each["fired"].get(rule, "info") != "info" for each in healthy_runs)
        assert alarms <= 0.02 * len(healthy_runs), rule
    by_name = {each.name: each for each in FAULTS}
    runs: dict[str, list[bool]] = {name: [] for name in by_name}
    for each in found:
        if each["kind"].startswith("fault"):
            calls = set(by_name[each["name"]].rules)
            told = {rule for rule, severity in each["fired"].items() if severity != "info" or rule == "label_suspects"}
            runs[each["name"]].append(bool(told & calls))
    assert all(len(each) == 6 for each in runs.values())
    # A mistake counts where most of its runs name it: 35 of 36 do, and 32 in every one of their six runs.
    assert sum(sum(each) > 3 for each in runs.values()) >= 0.9 * len(FAULTS)
    assert sum(all(each) for each in runs.values()) >= 0.85 * len(FAULTS)


def test_every_mistake_calls_for_rules_that_are_there() -> None:
    assert len(FAULTS) >= 20
    assert all(rule in BY_NAME for each in FAULTS for rule in each.rules)
