"""The closed-form head against scikit-learn's logistic regression, on real digits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from houndsight.models import probe
from houndsight.models.probe import Features, Labels


@pytest.fixture(scope="module")
def digits() -> tuple[Features, Labels, Features, Labels]:
    images, labels = load_digits(return_X_y=True)
    x, y = images.astype(np.float32), labels.astype(np.int64)
    return x[::2], y[::2], x[1::2], y[1::2]


def test_it_is_the_minimum_that_scikit_learn_finds(digits: tuple[Features, Labels, Features, Labels]) -> None:
    x, y, x_valid, _ = digits
    mean, scale = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1)
    found = probe.fit(x, y, 10, decays=(0.01,), iterations=500, tolerance=1e-10)
    theirs = LogisticRegression(C=1 / (0.01 * len(x)), max_iter=2000, tol=1e-8).fit((x - mean) / scale, y)
    ours = found.logits(x_valid)
    expected = theirs.decision_function((x_valid - mean) / scale)
    np.testing.assert_allclose(
        ours - ours.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=0.02
    )


def test_the_decay_is_chosen_on_validation(digits: tuple[Features, Labels, Features, Labels]) -> None:
    x, y, x_valid, y_valid = digits
    found = probe.fit(x[:400], y[:400], 10, valid=(x_valid, y_valid))
    assert found.losses[found.decay] == min(found.losses.values())
    assert len(found.losses) >= 3
    assert (found.logits(x_valid).argmax(1) == y_valid).mean() > 0.9


@pytest.mark.parametrize("noise", [0.0, 2.0, 12.0])
def test_the_search_finds_the_best_of_all(digits: tuple[Features, Labels, Features, Labels], noise: float) -> None:
    """Also where the best is the weakest or a strong one, which is far from where the search begins."""
    x, y, x_valid, y_valid = digits
    valid = (x_valid, y_valid)
    random = np.random.default_rng(0)
    x, y = (x[:300] + noise * random.normal(size=x[:300].shape)).astype(np.float32), y[:300]
    one_by_one = {decay: probe.fit(x, y, 10, valid=valid, decays=(decay,)).losses[decay] for decay in probe.DECAYS}
    found = probe.fit(x, y, 10, valid=valid)
    assert one_by_one[found.decay] <= min(one_by_one.values()) + 0.002


def test_a_constant_feature_changes_nothing(digits: tuple[Features, Labels, Features, Labels]) -> None:
    x, y, x_valid, _ = digits
    with_constant = np.concatenate([x, np.full((len(x), 1), 3.0, np.float32)], axis=1)
    plain = probe.fit(x, y, 10, decays=(0.1,))
    more = probe.fit(with_constant, y, 10, decays=(0.1,))
    valid = np.concatenate([x_valid, np.full((len(x_valid), 1), 3.0, np.float32)], axis=1)
    np.testing.assert_allclose(more.logits(valid), plain.logits(x_valid), atol=0.02)


def test_class_weights_lift_the_rare_class(digits: tuple[Features, Labels, Features, Labels]) -> None:
    x, y, x_valid, y_valid = digits
    keep = (y != 8) | (np.cumsum(y == 8) <= 3)
    x, y = x[keep], y[keep]
    counts = np.bincount(y, minlength=10)
    weights = (len(y) / (10 * counts)).astype(np.float32)
    recall = [
        (probe.fit(x, y, 10, decays=(0.1,), class_weights=each).logits(x_valid).argmax(1) == 8)[y_valid == 8].mean()
        for each in (None, weights)
    ]
    assert recall[1] > recall[0]


def test_several_decays_need_something_to_choose_by(digits: tuple[Features, Labels, Features, Labels]) -> None:
    x, y, _, _ = digits
    with pytest.raises(ValueError, match="validation"):
        probe.fit(x, y, 10)
