"""Metrics against scikit-learn, SciPy and values worked out by hand; intervals against simulations."""

from math import comb, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from houndsight import metrics

RNG = np.random.default_rng(0)


def problem(n: int = 300, classes: int = 7, sharpness: float = 1.5, seed: int = 0) -> tuple[metrics.Floats, np.ndarray]:
    """Logits that a real classifier might give, and labels drawn from some of its beliefs."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    probabilities = metrics.softmax(logits)
    labels = (probabilities.cumsum(axis=1) > rng.random(n)[:, None]).argmax(axis=1)
    return logits * sharpness, labels


def test_softmax_survives_large_logits() -> None:
    assert metrics.softmax([[1000.0, 0.0], [-1000.0, -1000.0]]).tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert metrics.log_softmax([[1000.0, 0.0]]).tolist() == [[0.0, -1000.0]]
    assert metrics.softmax([[2.0, 0.0]], temperature=2.0) == pytest.approx(metrics.softmax([[1.0, 0.0]]))


def test_wilson_by_hand() -> None:
    """10 of 20: (0.5 + z2/40 -+ z sqrt(0.25/20 + z2/1600)) / (1 + z2/20) with z2 = 3.8415 (Wilson 1927)."""
    measure = metrics.wilson(10, 20)
    assert (measure.value, measure.n) == (0.5, 20)
    assert [measure.low, measure.high] == pytest.approx([0.299298, 0.700702], abs=1e-6)
    nothing, everything = metrics.wilson(0, 10), metrics.wilson(10, 10)
    assert [nothing.low, nothing.high] == pytest.approx([0, 0.277533], abs=1e-6)
    assert [everything.low, everything.high] == pytest.approx([0.722467, 1], abs=1e-6)


@given(hits=st.integers(0, 50), more=st.integers(0, 50))
def test_wilson_always_holds_its_value(hits: int, more: int) -> None:
    if hits + more:
        measure = metrics.wilson(hits, hits + more)
        assert 0 <= measure.low <= measure.value <= measure.high <= 1


def test_scores_equal_scikit_learn() -> None:
    from sklearn.metrics import (
        accuracy_score,
        balanced_accuracy_score,
        confusion_matrix,
        f1_score,
        log_loss,
        precision_recall_fscore_support,
        top_k_accuracy_score,
    )

    logits, labels = problem()
    predicted = logits.argmax(axis=1)
    got = metrics.measures(logits, labels)
    assert got["top1"].value == pytest.approx(accuracy_score(labels, predicted))
    assert got["top5"].value == pytest.approx(top_k_accuracy_score(labels, logits, k=5))
    assert got["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert got["macro_f1"].value == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert got["loss"].value == pytest.approx(log_loss(labels, metrics.softmax(logits)))
    counts = metrics.confusion(labels, predicted, 7)
    assert counts.tolist() == confusion_matrix(labels, predicted).tolist()
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted)
    for each, row in enumerate(metrics.class_scores(counts, [f"class {i}" for i in range(7)])):
        assert row.name == f"class {each}"
        assert (row.precision, row.recall.value, row.f1) == pytest.approx((precision[each], recall[each], f1[each]))
        assert row.support == row.recall.n == support[each]


def test_classes_that_are_missing_or_never_called() -> None:
    """Class 2 has no image, class 1 is never predicted; scikit-learn's averages leave out and count likewise."""
    from sklearn.metrics import f1_score

    counts = metrics.confusion([0, 0, 1], [0, 0, 0], 3)
    assert metrics.balanced_accuracy(counts).value == 0.5
    assert metrics.macro_f1(counts).value == pytest.approx(
        f1_score([0, 0, 1], [0, 0, 0], average="macro", zero_division=0)
    )
    empty = metrics.class_scores(counts, ["a", "b", "c"])[2]
    assert (empty.support, empty.precision, empty.f1) == (0, 0.0, 0.0)
    assert (empty.recall.low, empty.recall.high, empty.recall.n) == (0.0, 1.0, 0)


def test_top_k_breaks_ties_by_class_order() -> None:
    logits = np.zeros((3, 4))
    assert metrics.hits(logits, [0, 1, 3]).tolist() == [True, False, False]
    assert metrics.hits(logits, [0, 1, 3], k=2).tolist() == [True, True, False]
    assert metrics.hits(logits, [0, 1, 3], k=4).all()
    assert metrics.hits(logits, [0, 1, 3], k=9).all()
    assert (metrics.hits(logits, [0, 1, 3]) == (logits.argmax(axis=1) == [0, 1, 3])).all()


def test_calibration_error_by_hand() -> None:
    """Confidences 0.9 0.9 0.9 0.9 with 3 right, 0.6 with 0 right: (4 |0.75 - 0.9| + 1 |0 - 0.6|) / 5 = 0.24."""
    high, low = [log(0.9), log(0.1)], [log(0.6), log(0.4)]
    logits, labels = np.array([high, high, high, high, low]), np.array([0, 0, 0, 1, 1])
    measure = metrics.calibration_error(logits, labels)
    assert measure.value == pytest.approx(0.24)
    assert measure.low <= measure.value <= measure.high
    bins = metrics.reliability(logits, labels)
    assert [(each.count, each.accuracy) for each in bins] == [(1, 0.0), (4, 0.75)]
    assert [each.confidence for each in bins] == [pytest.approx(0.6), pytest.approx(0.9)]
    assert all(each.low < each.confidence <= each.high for each in bins)


def test_calibration_error_of_certainty() -> None:
    measure = metrics.calibration_error(np.array([[1e4, 0.0]] * 50), np.zeros(50, dtype=int))
    assert (measure.value, measure.low, measure.high) == (0.0, 0.0, 0.0)


def test_calibration_error_begins_at_zero_for_a_calibrated_model() -> None:
    logits, labels = problem(sharpness=1.0)
    assert metrics.calibration_error(logits, labels).low == 0.0
    logits, labels = problem(sharpness=4.0)
    assert metrics.calibration_error(logits, labels).low > 0.05


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 1.5, 5.0])
def test_temperature_is_the_likeliest(sharpness: float) -> None:
    from scipy.optimize import minimize_scalar

    logits, labels = problem(n=700, sharpness=sharpness)

    def loss(temperature: float) -> float:
        return float(-metrics.log_softmax(logits, temperature)[np.arange(700), labels].sum())

    def with_prior(temperature: float) -> float:
        return loss(temperature) + 1 / temperature - 1 + log(temperature)

    temperature = metrics.fit_temperature(logits, labels)
    options = {"xatol": 1e-10}
    exact = minimize_scalar(with_prior, bounds=(0.02, 20), method="bounded", options=options).x
    likeliest = minimize_scalar(loss, bounds=(0.02, 20), method="bounded", options=options).x
    assert temperature == pytest.approx(exact, rel=1e-6)
    assert temperature == pytest.approx(likeliest, rel=5e-3)
    assert temperature == pytest.approx(sharpness, rel=0.15)


def test_temperature_where_the_likelihood_has_no_peak() -> None:
    right = np.array([[9.0, 0.0]] * 100)
    assert 0.5 < metrics.fit_temperature(right, np.zeros(100, dtype=int)) < 1.0
    assert metrics.fit_temperature(right, np.ones(100, dtype=int)) > 10
    assert metrics.fit_temperature(np.zeros((5, 3)), [0, 1, 2, 0, 1]) == pytest.approx(1.0)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(2, 6),
    st.floats(1e-6, 1e6),
    st.integers(0, 2**31),
)
def test_temperature_is_always_a_positive_number(n: int, classes: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    temperature = metrics.fit_temperature(rng.normal(size=(n, classes)) * scale, rng.integers(0, classes, n))
    assert 0 < temperature < float("inf")


def test_mcnemar_by_hand() -> None:
    """9 against 2: exact p = 2 (C(11,0) + C(11,1) + C(11,2)) / 2^11, the mid-p less C(11,2) / 2^11."""
    a = np.array([True] * 9 + [False] * 2 + [True] * 30)
    b = np.array([False] * 9 + [True] * 2 + [True] * 30)
    test = metrics.mcnemar(a, b)
    assert (test.only_a, test.only_b) == (9, 2)
    exact = 2 * (1 + 11 + 55) / 2**11
    assert test.p_exact == pytest.approx(exact)
    assert test.p_value == pytest.approx(exact - comb(11, 2) / 2**11)
    assert metrics.mcnemar(b, a).p_value == pytest.approx(test.p_value)


def test_mcnemar_equals_scipy_and_survives_many_images() -> None:
    from scipy.stats import binomtest

    a, b = RNG.random(100_000) < 0.9, RNG.random(100_000) < 0.9
    test = metrics.mcnemar(a, b)
    assert test.p_exact == pytest.approx(binomtest(test.only_a, test.only_a + test.only_b).pvalue, rel=1e-6)
    assert metrics.mcnemar(a, a) == metrics.McNemar(0, 0, 1.0, 1.0)


def test_paired_difference_by_hand() -> None:
    """Bonett and Price (2012) with 59 and 16 of 116 pairs in disagreement."""
    a = np.array([True] * 59 + [False] * 16 + [True] * 41)
    b = np.array([False] * 59 + [True] * 16 + [True] * 41)
    measure = metrics.paired_difference(a, b)
    p, q = 60 / 118, 17 / 118
    half = 1.959964 * ((p + q - (p - q) ** 2) / 118) ** 0.5
    assert measure.value == pytest.approx(43 / 116)
    assert [measure.low, measure.high] == pytest.approx([p - q - half, p - q + half])
    same = metrics.paired_difference([True, False], [True, False])
    assert same.value == 0
    assert same.low < 0 < same.high


def test_intervals_are_repeatable_and_hold_their_value() -> None:
    logits, labels = problem()
    one, other = metrics.measures(logits, labels, 1.3), metrics.measures(logits, labels, 1.3)
    assert one == other
    for measure in one.values():
        assert measure.low <= measure.value <= measure.high
        assert measure.n == len(labels)


def test_no_mistake_is_no_certainty() -> None:
    counts = np.diag([10, 20, 30])
    for measure in (metrics.balanced_accuracy(counts), metrics.macro_f1(counts)):
        assert measure.value == measure.high == 1.0
        assert 0.8 < measure.low < 0.95


@pytest.mark.parametrize(("size", "recall"), [([10] * 30, 0.95), ([5, 40, 100], 0.8)])
def test_intervals_hold_the_truth_as_often_as_they_say(size: list[int], recall: float) -> None:
    """300 simulated splits: 95 % intervals of the class means miss in 2 to 9 %."""
    rng, classes, kept = np.random.default_rng(1), len(size), {"balanced": 0, "f1": 0}
    shares = np.full((classes, classes), (1 - recall) / (classes - 1))
    np.fill_diagonal(shares, recall)
    expected = shares * np.array(size)[:, None]
    f1 = float(np.mean(2 * expected.diagonal() / (expected.sum(axis=0) + expected.sum(axis=1))))
    for _ in range(300):
        counts = np.stack([rng.multinomial(n, row) for n, row in zip(size, shares, strict=True)])
        balanced, macro = metrics.balanced_accuracy(counts), metrics.macro_f1(counts)
        kept["balanced"] += balanced.low <= recall <= balanced.high
        kept["f1"] += macro.low <= f1 <= macro.high
    assert all(each / 300 >= 0.9 for each in kept.values()), kept
