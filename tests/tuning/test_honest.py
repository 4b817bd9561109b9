"""What a search says about itself: flags for what cannot be, edges, ties, importance; its page and its files."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from houndsight.folders import JobFolder
from houndsight.records.writer import RecordWriter
from houndsight.reports import tuning as page
from houndsight.spec import ClassifierSpec
from houndsight.tuning import audit, leaderboard
from houndsight.tuning.events import State, Trial, read_state
from houndsight.tuning.importance import importance
from houndsight.tuning.objective import Course, usual_goal
from houndsight.tuning.spec import TuningSpec
from houndsight.tuning.written import read_space
from houndsight.verbs.tuning_job import TuningJob, earlier
from houndsight.workspace import Workspace, write_json

from .conftest import INDEX, Bench, rules


def found_in(values: list[float], tmp_path: Path, objective: str = "test loss", **points: list[Any]) -> dict[str, Any]:
    """What the audit says to trials of a script with these objectives."""
    space = read_space({name: sorted(set(each)) for name, each in points.items()} or {"lr": "0..1"})
    spec = TuningSpec.create(job={"kind": "script"}, space=space, objective=objective, pattern="x",
                             goal=usual_goal(objective))  # fmt: skip
    trials = [
        Trial(number, f"t-{number}", {name: each[number] for name, each in points.items()} or {"lr": number / 10},
              state="COMPLETED", value=value)
        for number, value in enumerate(values)
    ]  # fmt: skip
    state, place = State(trials=trials), Workspace(tmp_path)
    return {each.rule: each for each in audit.findings(spec, state, place, leaderboard.rank(spec, state, place))}


def test_numbers_that_cannot_be_are_flagged(tmp_path: Path) -> None:
    assert "negative_loss" in found_in([-37.9, -34.3, -30.1], tmp_path)
    assert "impossible_accuracy" in found_in([3964.0, 90.5, 80.1], tmp_path, "test accuracy")
    assert "whole_numbers" in found_in([53.0, 17.0, 20.0], tmp_path)
    assert "constant_objective" in found_in([0.5, 0.5, 0.5], tmp_path)
    assert "whole_numbers" in found_in([53.0, 17.0], tmp_path)  # two trials are what many people pay for
    assert "selected_on_test" in found_in([0.5, 0.4, 0.3], tmp_path)


def test_so_are_numbers_by_which_nothing_is_chosen(tmp_path: Path) -> None:
    spec = TuningSpec.create(job={"kind": "script"}, space=read_space({"lr": "0..1"}), objective="loss", pattern="x")
    printed = {"accuracy": 3964.5, "steps": 100.0, "f1": 0.5}
    metrics = {"script": {name: {"value": value} for name, value in {**printed, "loss": 0.1}.items()}}
    trials = [
        Trial(each, f"t-{each}", {"lr": each / 10}, state="COMPLETED", value=each / 7, metrics=metrics)
        for each in range(3)
    ]
    found = audit.findings(spec, State(trials=trials), Workspace(tmp_path), [])
    told = {(each.rule, each.evidence["metric"]): each.severity for each in found if "metric" in each.evidence}
    assert told == {
        ("impossible_accuracy", "accuracy"): "warning",
        ("constant_metric", "accuracy"): "warning",
        ("constant_metric", "steps"): "warning",
        ("constant_metric", "f1"): "warning",
    }


def test_sound_numbers_are_not(tmp_path: Path) -> None:
    found = found_in([0.53, 0.17, 0.2, 0.3], tmp_path, "valid loss", lr=[0.1, 0.2, 0.3, 0.4], seed=[1, 2, 3, 4])
    assert set(found) == set()


def test_a_best_value_on_the_edge_of_its_range_is_told_with_a_wider_one(bench: Bench) -> None:
    bench.tune("lr=log:1e-5..1e-3", jobs=5, default_first=False, reseed=0, strategy="grid")
    found = rules(bench.place.tuning("t"))
    assert found["range_edge"]["evidence"] == {"name": "lr", "value": 1e-3, "end": "upper"}
    assert "--param 'lr=log:1e-05..0.01'" in found["range_edge"]["repair"]


def test_values_that_did_not_arrive_are_found(bench: Bench) -> None:
    def ignored(job: JobFolder, spec: ClassifierSpec, epoch: int) -> None:
        if epoch == 0:
            write_json(job.plan, spec.model_copy(update={"batch_size": 32}))

    bench.surface.wrong = ignored
    bench.tune("batch_size=8,16,64", strategy="grid", jobs=3, default_first=False, reseed=0)
    found = rules(bench.place.tuning("t"))
    assert "asked for 8 and used 32" in found["value_not_used"]["message"]
    assert found["value_not_used"]["severity"] == "error"
    assert found["identical_trials"]["evidence"]["names"] == ["batch_size"]


def test_ties_follow_from_the_same_images(bench: Bench) -> None:
    state = bench.tune("lr=0.01,0.0101,0.5", strategy="grid", jobs=3, default_first=False, reseed=0)
    spec = TuningSpec.read(bench.place.tuning("t").spec)
    rows = leaderboard.rank(spec, state, bench.place)
    assert [row.tied for row in rows] == [True, True, False]
    assert rows[1].p_value is not None
    assert rows[1].p_value > 0.05 > (rows[2].p_value or 0.0)


def test_importance_names_what_mattered(bench: Bench) -> None:
    state = bench.tune("lr=log:1e-5..1", "weight_decay=0..0.1", jobs=16, reseed=0, strategy="random")
    spec = TuningSpec.read(bench.place.tuning("t").spec)
    found = importance(spec, state)
    assert list(found) == ["lr", "weight_decay"]
    assert found["lr"] > 0.6
    assert importance(spec, State(trials=state.trials[:5])) == {}


def test_a_search_starts_from_an_earlier_one(bench: Bench) -> None:
    bench.tune("lr=log:1e-4..1", jobs=8)
    spec = TuningSpec.create(job={"kind": "classifier", "data": "data"}, space=read_space(["lr=log:1e-3..1"]), jobs=6)
    same = earlier(spec, bench.place, "t", INDEX)
    assert len(same.earlier) == 8
    assert same.first == ()
    other = earlier(spec, bench.place, "t", INDEX.model_copy(update={"fingerprint": "other"}))
    best = TuningJob(bench.place.tuning("t"), bench.place).best_trial()
    assert other.earlier == ()
    assert len(other.first) == 3
    assert other.first[0]["lr"] == pytest.approx(best.hyperparameters.get("lr", 0.001))


def test_the_page_says_it_all_and_forbids_itself_the_network(bench: Bench) -> None:
    bench.tune("lr=log:1e-4..1", "momentum=0.8..0.99 if optimizer=sgd", "optimizer=sgd,adamw", jobs=12)
    folder = bench.place.tuning("t")
    page.build(folder, bench.place)
    text, twin = folder.report.read_text(), json.loads(folder.report_data.read_bytes())
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    charts = json.loads(re.search(r'id="chart-data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert set(charts) == {"history", "parallel", "importance", "courses"}
    assert len(twin["trials"]) == len(read_state(folder.events).trials)
    assert twin["trials"][0]["place"] == 1
    for row in twin["trials"]:
        assert row["job"] in text
    for each in twin["findings"]:
        assert each["source"] == "tuning"


def test_the_page_of_a_search_that_has_just_begun(bench: Bench) -> None:
    folder = bench.make("lr=log:1e-4..1")
    page.build(folder, bench.place)
    assert "No trial was completed" in folder.report.read_text()


def test_a_course_is_read_as_it_grows(tmp_path: Path) -> None:
    course = Course(tmp_path, "loss", "valid")
    assert course.read() == []
    with RecordWriter(tmp_path) as records:
        for step in range(3):
            records.scalar("loss", step / 10, step=step, mode="valid")
            records.scalar("loss", 9.0, step=step)
        records.flush()
        assert course.read() == [0.0, 0.1, 0.2]
        records.scalar("loss", 0.5, step=2, mode="valid")  # again, by a job that resumed
        records.scalar("loss", float("nan"), step=3, mode="valid")
        records.flush()
        found = course.read()
    assert found[:3] == [0.0, 0.1, 0.5]
    assert found[3] != found[3]


@pytest.mark.parametrize(
    ("objective", "goal"),
    [
        ("valid:accuracy", "maximize"),
        ("valid:loss", "minimize"),
        ("average test loss", "minimize"),
        ("Test Loss", "minimize"),
        ("valid:ece", "minimize"),
        ("f1", "maximize"),
        ("val_accuracy", "maximize"),
        ("RMSE", "minimize"),
    ],
)
def test_names_say_which_way_is_better(objective: str, goal: str) -> None:
    assert usual_goal(objective) == goal
