"""The statistics of the rules against numbers that are known or computed by scipy."""

import numpy as np
import pytest
from scipy import stats

from houndsight.metrics import wilson
from houndsight.records.rules.history import RING, History
from houndsight.records.rules.moment import Moment
from houndsight.records.rules.numbers import blocks, difference, gap_of_shares, mad, share, slope, t975
from houndsight.records.rules.passes import Judged, Passes
from houndsight.records.rules.progress import rounded
from houndsight.records.rules.rule import Streak


@pytest.mark.parametrize("degrees", [1, 2, 5, 14, 15, 30, 1000])
def test_students_quantile(degrees: int) -> None:
    assert t975(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=2e-3)


def test_theil_sen_is_scipys_and_outliers_do_not_move_it() -> None:
    draw = np.random.default_rng(0)
    x = np.arange(40.0)
    y = 0.3 * x + draw.normal(size=40)
    ours, theirs = slope(x, y), stats.theilslopes(y, x)
    assert ours[0] == pytest.approx(theirs.slope)
    assert ours[1] == pytest.approx(theirs.low_slope, abs=0.01)
    assert ours[2] == pytest.approx(theirs.high_slope, abs=0.01)
    y[5] = 1e6
    assert ours[1] < slope(x, y)[0] < ours[2]


def test_welch_is_scipys() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.normal(0, 1, 20), draw.normal(1, 3, 30)
    theirs = stats.ttest_ind(b, a, equal_var=False).confidence_interval()
    assert difference(a, b) == pytest.approx((b.mean() - a.mean(), theirs.low, theirs.high), rel=2e-3)
    assert difference([1.0, 1.0], [2.0, 2.0])[1:] == (-np.inf, np.inf)


def test_bounds_of_shares() -> None:
    low, high = share([0, 5, 10], [10, 10, 10])
    for at, hits in enumerate((0, 5, 10)):
        assert (low[at], high[at]) == pytest.approx((wilson(hits, 10).low, wilson(hits, 10).high), abs=1e-7)
    assert share([0], [0]) == (np.array([0.0]), np.array([1.0]))
    assert gap_of_shares(56, 70, 48, 80) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)  # Newcombe 1998, table II


def test_median_and_blocks() -> None:
    assert mad([1.0, 2.0, 3.0, np.nan, np.inf]) == pytest.approx((2.0, 1.4826))
    assert blocks(np.arange(10.0), 4).tolist() == [2.5, 4.5, 6.5, 8.5]


def test_learning_rates_as_people_write_them() -> None:
    assert [rounded(rate) for rate in (0.01, 0.0034, 0.0099, 3e-5, 1.0)] == [0.01, 0.002, 0.005, 2e-05, 1.0]


def test_a_streak_waits_fires_once_and_re_arms() -> None:
    streak = Streak(needed=2, rest=2)
    held = [1, 1, 1, 0, 1, 1, 0, 0, 1, 1]
    assert [bool(streak.update(np.array([bool(each)]))[0]) for each in held] == [
        False, True, False, False, False, False, False, False, False, True,
    ]  # fmt: skip


def test_what_was_not_taken_keeps_its_count() -> None:
    streak = Streak(needed=2)
    nothing = np.array([False])
    assert not streak.update(np.array([True])).any()
    assert not streak.update(nothing, known=nothing).any()
    assert streak.update(np.array([True])).all()


def test_the_history_is_bounded_and_new_tensors_may_join() -> None:
    history = History({}, ("l2", "std"))
    for step in range(3 * RING):
        names = ("a/x",) if step < RING else ("a/x", "a/y")
        history.add(Moment(step, names=names, values=np.full((len(names), 2), step, np.float32)))
    group = history.group("a/")
    assert group.names == ("x", "y")
    window = history.window(group, "l2", 1000)
    assert window.shape == (RING, 2)
    assert window[-1].tolist() == [3 * RING - 1] * 2
    assert np.isnan(history.now(group, "mean")).all()
    assert history.one("a/y") == {"l2": 3 * RING - 1, "std": 3 * RING - 1}
    assert len(history.window(group, "l2", 4, "valid")) == 0


def test_a_validation_is_put_together_from_parts_in_any_order() -> None:
    counts = np.diag([30, 20])
    passes = Passes("loss", patient=True)
    passes.add(9, Moment(9, "valid", scalars={"loss": 1.0, "accuracy": 0.9}), 0)
    assert passes.done == []
    passes.add(19, Moment(19, "valid", scalars={"loss": 0.5}), 0)
    assert [each.n for each in passes.done] == [0]
    passes.add(9, Moment(9, "valid", confusion=counts), 0)
    assert passes.done == [Judged(9, 1.0, 1.0, 50)]
    passes.add(19, Moment(19, "valid", confusion=counts), 0)
    assert [(each.step, each.loss, each.n) for each in passes.done] == [(9, 1.0, 50), (19, 0.5, 50)]
    for step in range(29, 800, 10):
        passes.add(step, Moment(step, "valid", scalars={"loss": 0.5}), 0)
    passes.add(9, Moment(9, "valid", confusion=counts), 0)  # long forgotten
    passes.end(0)
    assert len(passes.done) == 80
