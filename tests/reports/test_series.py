"""Curves and time shares: nothing is lost, nothing is counted twice, the parts sum to the whole."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houndsight.records.schema import Scalar, Span
from houndsight.reports import series


def scalars(name: str, values: list[float], mode: str = "train") -> list[Scalar]:
    return [Scalar(name, mode, step, value, 0.0) for step, value in enumerate(values)]


def span(name: str, start: float, seconds: float) -> Span:
    return Span(name, 0, start, seconds)


def test_a_long_curve_comes_in_at_most_400_buckets_that_keep_its_extremes() -> None:
    values = [math.sin(step / 50) for step in range(10_001)]
    (curve,) = series.curves(scalars("loss", values))
    assert len(curve.points) <= series.BUCKETS
    assert sum(point.count for point in curve.points) == curve.count == 10_001
    assert curve.points[-1].step == 10_000
    lows = [point.low for point in curve.points if point.low is not None]
    assert min(lows) == pytest.approx(min(values))


def test_values_that_are_not_finite_are_counted_and_placed_but_not_averaged() -> None:
    (curve,) = series.curves(scalars("loss", [1.0, math.nan, math.inf, 3.0]))
    assert (curve.nonfinite, curve.nonfinite_step) == (2, 1)
    assert [point.value for point in curve.points] == [1.0, None, None, 3.0]


def test_a_curve_without_any_finite_value_is_still_reported() -> None:
    (curve,) = series.curves(scalars("loss", [math.nan] * 3))
    assert (curve.first, curve.last, curve.best, curve.nonfinite) == (None, None, None, 3)


def test_the_best_value_is_the_lowest_loss_and_the_highest_accuracy_in_validation_only() -> None:
    values = [0.5, 0.2, 0.7, 0.2]
    recorded = [
        *scalars("loss", values, "valid"),
        *scalars("accuracy", values, "valid"),
        *scalars("lr", values, "valid"),
    ]
    loss, accuracy, lr, training = series.curves([*recorded, *scalars("val_loss", values, "train")])
    assert (loss.best, loss.best_step) == (0.2, 1)
    assert (accuracy.best, accuracy.best_step) == (0.7, 2)
    assert lr.best is None
    assert training.best is None


def test_a_step_that_was_recorded_twice_counts_once_with_its_last_value() -> None:
    (curve,) = series.curves([*scalars("loss", [1.0, 2.0]), Scalar("loss", "train", 1, 9.0, 1.0)])
    assert [point.value for point in curve.points] == [1.0, 9.0]


def test_well_known_curves_come_first_and_training_before_validation() -> None:
    recorded = [
        *scalars("a_metric", [1]),
        *scalars("lr", [1]),
        *scalars("loss", [1], "valid"),
        *scalars("accuracy", [1]),
        *scalars("loss", [1]),
    ]
    assert [(each.name, each.mode) for each in series.curves(recorded)] == [
        ("loss", "train"),
        ("loss", "valid"),
        ("accuracy", "train"),
        ("lr", "train"),
        ("a_metric", "train"),
    ]


def test_an_inner_span_takes_its_time_from_the_outer_one_and_gaps_are_the_rest() -> None:
    use = series.time_use([span("data", 1, 2), span("step", 1, 5), span("evaluate", 8, 2)])
    assert use is not None
    assert {each.kind: each.seconds for each in use.shares} == {"step": 3, "data": 2, "evaluate": 2, "rest": 2}
    assert use.wall == 9


def test_a_pause_of_a_resumed_job_is_left_out_and_said() -> None:
    use = series.time_use([span("forward", 0, 10), span("forward", 4010, 10)])
    assert use is not None
    assert (use.wall, use.paused) == (20, 4000)
    assert [each.share for each in use.shares] == [1.0]


def test_no_spans_no_statement() -> None:
    assert series.time_use([]) is None
    assert series.time_use([span("forward", 5, 0.0)]) is None


def test_a_clock_that_was_set_back_does_no_harm() -> None:
    use = series.time_use([span("forward", 100, 10), span("forward", 50, 10), span("data", 55, 20)])
    assert use is not None
    assert sum(each.share for each in use.shares) == pytest.approx(1, abs=1e-5)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.floats(0, 200), st.floats(0, 50)).map(lambda each: span(*each)),
        max_size=40,
    )
)
def test_the_shares_sum_to_one_whatever_was_recorded(spans: list[Span]) -> None:
    use = series.time_use(spans)
    if use is None:
        return
    assert sum(each.share for each in use.shares) == pytest.approx(1, abs=1e-4)
    assert all(each.share >= 0 for each in use.shares)
    for piece in use.slices:
        assert sum(piece.shares.values()) == pytest.approx(1, abs=1e-4)
    first, last = min(each.start for each in spans), max(each.start + each.seconds for each in spans)
    assert use.wall + use.paused == pytest.approx(last - first, rel=1e-4, abs=1e-4)
