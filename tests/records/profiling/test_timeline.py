"""Spans become a timeline whose parts sum to all of the wall time, whoever recorded them."""

import time
from pathlib import Path

import numpy as np
import pytest

from houndsight.records import timeline
from houndsight.records.schema import Span
from houndsight.records.writer import RecordWriter

from .made import BEGAN, spans


def test_parts_of_every_step_sum_to_the_wall_time() -> None:
    found = timeline.build(spans(50, data=0.01, forward=0.02, backward=0.03, optimizer=0.005, fit=0.001))
    assert found.steps == 50
    assert found.totals()["rest"] == pytest.approx(50 * 0.001)
    assert sum(found.totals().values()) == pytest.approx(50 * 0.066)
    assert sum(seconds for _, _, seconds in found.phases()) == pytest.approx(found.ended - found.began)
    assert found.each() == pytest.approx(np.full(50, 0.066), rel=1e-4)


def test_gaps_are_rest_and_stages_stand_outside_the_loop() -> None:
    before = [Span("build", 0, BEGAN, 5.0), Span("decode", 0, BEGAN + 5, 2.0)]
    loop = [
        Span(name, step, BEGAN + 8 + step + at, 0.25)
        for step in range(20)
        for at, name in ((0.0, "data"), (0.25, "forward"), (0.5, "backward"))
    ]
    after = [Span("evaluate", 0, BEGAN + 28, 3.0)]
    found = timeline.build([*before, *loop, *after])
    assert [each.name for each in found.stages] == ["build", "decode", "evaluate"]
    assert found.totals() | {"rest": 0.0} == dict.fromkeys(timeline.STEP_PARTS, 0.0) | {
        "data": 5.0,
        "forward": 5.0,
        "backward": 5.0,
    }
    assert found.totals()["rest"] == pytest.approx(19 * 0.25)
    phases = {(name, inside): seconds for name, inside, seconds in found.phases()}
    assert phases["evaluate", False] == 3.0
    assert sum(phases.values()) == pytest.approx(31.0)


def test_groups_of_short_steps_count_their_steps() -> None:
    grouped = [
        Span(name, step, BEGAN + step / 100 + at, seconds)
        for step in range(0, 100, 10)
        for name, at, seconds in (("data", 0.0, 0.02), ("forward", 0.02, 0.06), ("optimizer", 0.08, 0.02))
    ]
    found = timeline.build(grouped)
    assert found.count.tolist() == [10] * 10  # the last is judged by the others
    assert timeline.build(grouped, steps=93).count.tolist() == [10] * 9 + [3]
    assert found.each() == pytest.approx(np.full(10, 0.01), rel=1e-4)


def test_evaluation_between_steps_is_no_step() -> None:
    found = spans(10, forward=0.02, optimizer=0.01)
    found += [Span("evaluate", 9, BEGAN + 0.3, 0.5)]
    found += [Span(each.name, each.step + 10, each.start + 0.8, each.seconds) for each in spans(10, forward=0.03)]
    whole = timeline.build(found)
    assert whole.steps == 20
    assert whole.totals()["evaluate"] == 0.5


def test_a_resumed_job_that_was_away_did_not_train_meanwhile() -> None:
    away = [Span(each.name, each.step + 5, each.start + 3600, each.seconds) for each in spans(10, forward=0.1)]
    whole = timeline.build([*spans(10, forward=0.1), *away])
    assert whole.totals()["rest"] == pytest.approx(0.0, abs=1e-6)
    assert sum(whole.totals().values()) == pytest.approx(2.0)
    assert (whole.count > 0).all()


def test_a_run_without_steps_has_stages_only(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as records:
        records.add_span("features", time.time(), 2.0, 0)
    found = timeline.read(tmp_path)
    assert found.steps == 0
    assert found.phases() == [("features", False, 2.0)]
    assert timeline.read(tmp_path / "nothing").phases() == []


def test_marks_lie_over_the_others() -> None:
    found = timeline.build([*spans(10, forward=0.1), Span("gc", 0, BEGAN + 0.05, 0.02)])
    assert sum(found.totals().values()) == pytest.approx(1.0)
    assert [each.name for each in found.marks] == ["gc"]
