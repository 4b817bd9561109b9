"""A search from its first trial to its final model: counts, limits, failures, and what is honest about the result."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from houndsight.errors import JobError
from houndsight.folders import JobFolder
from houndsight.spec import ClassifierSpec
from houndsight.tuning.events import EventLog, State, read_state

from .conftest import Bench, best, fails, rules


def ended(state: State) -> dict[str, list[int]]:
    """Numbers of the trials of the search by how they ended."""
    found: dict[str, list[int]] = {}
    for each in state.searched:
        found.setdefault(each.state, []).append(each.number)
    return found


def test_every_trial_runs_once_and_the_first_is_the_job_as_it_is(bench: Bench) -> None:
    state = bench.tune(jobs=6)
    assert ended(state) == {"COMPLETED": [0, 1, 2, 3, 4, 5]}
    assert state.trials[0].role == "default"
    assert state.trials[0].hyperparameters == {}
    assert state.trials[0].used == {"lr": 0.001}
    assert bench.place.names()[:6] == [f"t-{number:03d}" for number in range(6)]
    assert set(bench.surface.trained.values()) == {4}


def test_trials_never_see_test_and_the_final_model_does_once(bench: Bench) -> None:
    state = bench.tune()
    saw = [each.job for each in state.trials if (bench.place.jobs / each.job / "evaluation/test.json").is_file()]
    final = [each for each in state.trials if each.role == "final"]
    assert saw == [final[0].job]
    document = best(bench.place.tuning("t"))
    assert document["final"]["job"] == final[0].job
    assert set(document["final"]["metrics"]) == {"test", "valid"}


def test_the_leaders_that_chance_does_not_tell_apart_are_trained_again(bench: Bench) -> None:
    state = bench.tune("lr=0.009,0.01,0.011,0.0001", strategy="grid", jobs=5, reseed=3)
    again = [each for each in state.trials if each.role == "reseed"]
    assert len(again) == 3
    assert {each.hyperparameters["lr"] for each in again} == {0.009, 0.01, 0.011}
    seeds = {ClassifierSpec.read(JobFolder(bench.place.jobs / each.job).spec).seed for each in again}
    assert len(seeds) == 3
    assert 0 not in seeds
    document = best(bench.place.tuning("t"))
    assert document["mean_over_seeds"] == pytest.approx(sum(document["values_over_seeds"]) / 2)
    found = rules(bench.place.tuning("t"))
    assert found["tied_trials"]["evidence"]["trials"]
    assert "winners_curse" in found


def test_a_lone_winner_is_not_tied(bench: Bench) -> None:
    state = bench.tune("lr=0.01,0.0001,1.0", strategy="grid", jobs=4, default_first=False)
    assert [each.of for each in state.trials if each.role == "reseed"] == [0]


def test_a_failed_trial_is_told_and_the_search_goes_on(bench: Bench) -> None:
    def wrong(job: JobFolder, _spec: ClassifierSpec, _epoch: int) -> None:
        if job.name == "t-002":
            raise fails("the disk is on fire")

    bench.surface.wrong = wrong
    state = bench.tune()
    assert ended(state) == {"COMPLETED": [0, 1, 3, 4, 5], "FAILED": [2]}
    assert state.trials[2].reason == "the disk is on fire"
    assert "the disk is on fire" in rules(bench.place.tuning("t"))["failed_trials"]["message"]


def test_a_search_in_which_everything_fails_alike_gives_up(bench: Bench) -> None:
    def wrong(_job: JobFolder, _spec: ClassifierSpec, _epoch: int) -> None:
        raise fails("no such file: weights.pth")

    bench.surface.wrong = wrong
    with pytest.raises(JobError, match="all 5 failed with: no such file"):
        bench.tune(jobs=50)


def test_a_trial_that_lacked_memory_is_tried_once_more(bench: Bench) -> None:
    attempts = itertools.count()

    def wrong(job: JobFolder, _spec: ClassifierSpec, _epoch: int) -> None:
        if job.name == "t-001" and next(attempts) == 0:
            raise MemoryError

    bench.surface.wrong = wrong
    state = bench.tune()
    assert ended(state) == {"COMPLETED": [0, 1, 2, 3, 4, 5]}
    assert state.trials[1].retried


def test_a_trial_that_lacks_memory_again_has_failed(bench: Bench) -> None:
    def wrong(job: JobFolder, _spec: ClassifierSpec, _epoch: int) -> None:
        if job.name == "t-001":
            raise MemoryError

    bench.surface.wrong = wrong
    state = bench.tune()
    assert state.trials[1].state == "FAILED"
    assert "out of memory" in state.trials[1].reason


@pytest.mark.parametrize("strategy", ["asha", "hyperband"])
def test_halving_goes_on_from_checkpoints_and_spends_a_fraction(bench: Bench, strategy: str) -> None:
    state = bench.tune(strategy=strategy, jobs=18, job={"epochs": 9}, reseed=0, default_first=False)
    assert len(state.searched) == 18
    epochs = {each.job: bench.surface.trained.get(each.job, 0) for each in state.searched}
    assert sum(epochs.values()) == sum(each.epochs for each in state.searched)  # no epoch twice
    assert sum(epochs.values()) < (0.6 if strategy == "asha" else 0.7) * 18 * 9
    completed = [each for each in state.searched if each.state == "COMPLETED"]
    pruned = [each for each in state.searched if each.state == "PRUNED"]
    assert completed
    assert len(completed) + len(pruned) == 18
    assert {each.epochs for each in completed} == {9}
    assert {each.epochs for each in pruned} <= {3}
    leader = max(state.searched, key=lambda each: float(each.promise or 0))
    assert leader.state == "COMPLETED"


def test_the_default_is_always_trained_to_its_end(bench: Bench) -> None:
    state = bench.tune(strategy="asha", jobs=9, job={"epochs": 9, "lr": 1e-9})
    assert state.trials[0].state == "COMPLETED"
    assert state.trials[0].epochs == 9


def test_the_budget_of_epochs_is_kept(bench: Bench) -> None:
    state = bench.tune(jobs=50, budget=22, reseed=0)
    assert sum(each.epochs for each in state.searched) == 20
    assert len(state.searched) == 5


def test_minutes_end_the_search_and_not_what_it_found(bench: Bench) -> None:
    state = bench.tune(jobs=10_000, minutes=0.02, reseed=0)
    assert 1 < len(state.searched) < 10_000
    assert state.phase == "done"
    assert best(bench.place.tuning("t"))["final"]


def test_a_grid_is_gone_through_once(bench: Bench) -> None:
    state = bench.tune("lr=0.1,0.01", "batch_size=8,16,32", strategy="grid", jobs=50, default_first=False)
    tried = [tuple(each.hyperparameters.values()) for each in state.searched]
    assert sorted(tried) == sorted(itertools.product((0.1, 0.01), (8, 16, 32)))


def test_a_small_space_ends_when_every_point_was_tried(bench: Bench) -> None:
    state = bench.tune("batch_size=8,16,32", jobs=50, default_first=False)
    assert len(state.searched) == 3


# ------------------------------------------------------------------------------------- going on


def shape(state: State) -> list[tuple[object, ...]]:
    """What a search came to, without the times."""
    return [(e.number, e.role, e.of, e.state, e.hyperparameters, e.value, e.epochs) for e in state.trials]


class Killed(BaseException):
    """Stands for SIGKILL: nothing is written after it."""


@pytest.mark.parametrize("strategy", ["bayesian", "asha"])
def test_a_search_killed_at_any_event_ends_as_if_nothing_had_happened(
    bench: Bench, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"strategy": strategy, "jobs": 5, "job": {"epochs": 4}}
    whole = shape(bench.run(bench.make(**settings)))
    events = len(bench.place.tuning("t").events.read_bytes().splitlines())
    add = EventLog.add
    for last in range(1, events, 2):
        left = itertools.count()

        def killed(log: EventLog, event: str, left: Iterator[int] = left, last: int = last, **more: Any) -> None:
            if next(left) >= last:
                raise Killed
            add(log, event, **more)

        folder = bench.make(name=f"t{last}", **settings)
        monkeypatch.setattr(EventLog, "add", killed)
        with pytest.raises(Killed):
            bench.run(folder)
        monkeypatch.setattr(EventLog, "add", add)
        folder.events.write_bytes(folder.events.read_bytes() + b'{"event": "started", "numb')
        done = {each.job for each in read_state(folder.events).trials if each.state == "COMPLETED"}
        trained = dict(bench.surface.trained)
        assert shape(bench.run(folder)) == whole
        assert all(bench.surface.trained.get(name, 0) == trained.get(name, 0) for name in done)


def test_a_stopped_search_goes_on(bench: Bench) -> None:
    folder = bench.make(jobs=8)
    bench.run(folder, stop=lambda: folder.events.read_text().count('"ended"') >= 3)
    stopped = read_state(folder.events)
    finished = {each.number for each in stopped.trials if each.state == "COMPLETED"}
    assert 0 < len(finished) < 8
    assert stopped.phase == "search"
    trained = {name: epochs for name, epochs in bench.surface.trained.items() if int(name[-3:]) in finished}
    state = bench.run(folder)
    assert ended(state) == {"COMPLETED": list(range(8))}
    assert state.sessions == 2
    assert {name: bench.surface.trained[name] for name in trained} == trained
