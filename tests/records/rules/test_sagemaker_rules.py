"""The rules that SageMaker has too: what they say by our statistics, and at which step with SageMaker's parameters."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from houndsight.records.rules.engine import Engine
from houndsight.records.rules.moment import Moment

from .feeding import facts, losses, parameter, said, standing, tensors, validations

HEALTHY = {
    "weight/body.weight": {"mean": 0, "std": 0.04, "l2": 7.7, "min": -0.2, "max": 0.2, "zeros": 0, "p05": -1, "p95": 1},
    "weight/fc.weight": {"mean": 0, "std": 0.04, "l2": 7.7, "min": -0.2, "max": 0.2, "zeros": 0, "p05": -1, "p95": 1},
    "gradient/body.weight": {"l2": 0.1, "l1": 10.0, "std": 5e-4, "zeros": 0, "p05": -1e-3, "p95": 1e-3},
    "gradient/fc.weight": {"l2": 0.1, "l1": 10.0, "std": 5e-4, "zeros": 0, "p05": -1e-3, "p95": 1e-3},
    "update/body.weight": {"l2": 0.0077},
    "update/fc.weight": {"l2": 0.0077},
    "input/relu": {"mean": 0, "std": 1, "min": -3, "max": 3, "l2": 100, "zeros": 0, "dead": 0.1},
    "inputs": {"mean": 0.0, "std": 1.0, "min": -2, "max": 2, "zeros": 0},
    "outputs": {"mean": 0.0, "std": 1.0, "min": -3, "max": 3, "zeros": 0},
}  # fmt: skip


def run(**changes: dict[str, float]) -> Iterator[Moment]:
    """Saved steps of a healthy network with some statistics changed: `input_relu={"dead": 1.0}`."""
    rows = {name: dict(of) for name, of in HEALTHY.items()}
    for name, of in changes.items():
        [key] = [each for each in rows if each.replace("/", "_").replace(".", "_") == name]
        rows[key] |= of
    for step in range(12):
        drift = 1e-3 * step  # nothing is ever the same bit for bit
        fresh = {name: {key: value + drift * (key == "mean") for key, value in of.items()} for name, of in rows.items()}
        yield tensors(step, fresh, loss=2.3 * 0.9**step, lr=0.1)


@pytest.mark.parametrize(
    "rule",
    ["vanishing_gradient", "exploding_tensor", "poor_weight_initialization", "dead_relu", "weight_update_ratio",
     "all_zero", "unchanged_tensor", "tensor_variance", "check_input_images"],
)  # fmt: skip
def test_a_healthy_network_is_looked_at_and_left_in_peace(rule: str) -> None:
    [found] = standing(rule, run())
    assert found.status == "NoIssuesFound"


@pytest.mark.parametrize(
    ("rule", "changes", "step", "severity", "words"),
    [
        ("vanishing_gradient", {"gradient_body_weight": {"l2": 1e-8}}, 3, "warning", "body.weight"),
        ("exploding_tensor", {"gradient_body_weight": {"l2": np.inf}}, 0, "error", "gradient/body.weight"),
        ("exploding_tensor", {"input_relu": {"nonfinite": 0.01}}, 0, "error", "input/relu"),
        ("nonfinite_origin", {"input_relu": {"nonfinite": 0.1}, "gradient_body_weight": {"l2": np.inf}}, 0, "error",
         "input/relu"),
        ("dead_relu", {"input_relu": {"dead": 1.0}}, 3, "error", "relu is dead: 100%"),
        ("dead_relu", {"input_relu": {"dead": 0.9}}, 3, "warning", "90%"),
        ("all_zero", {"gradient_body_weight": {"zeros": 1.0}}, 2, "error", "gradient/body.weight"),
        ("all_zero", {"inputs": {"zeros": 1.0}}, 2, "error", "inputs"),
        ("unchanged_tensor", {"update_body_weight": {"l2": 0.0}}, 3, "error", "body.weight"),
        ("poor_weight_initialization", {"weight_body_weight": {"l2": 900}, "weight_fc_weight": {"l2": 900}}, 0,
         "warning", "far too large"),
        ("poor_weight_initialization", {"weight_body_weight": {"std": 0.0, "l2": 1.0}}, 0, "error", "alike"),
        ("check_input_images", {"inputs": {"mean": 120.0, "std": 60.0}}, 2, "warning", "not scaled"),
        ("check_input_images", {"inputs": {"mean": 0.001, "std": 0.001}}, 2, "warning", "twice"),
        ("head_outputs", {"outputs": {"min": 0.0, "zeros": 0.4}}, 3, "error", "ReLU"),
    ],
)  # fmt: skip
def test_what_is_sick_is_named_at_its_step(
    rule: str, changes: dict[str, dict[str, float]], step: int, severity: str, words: str
) -> None:
    found = said(rule, run(**changes))
    assert [each.step for each in found][:1] == [step]
    assert found[0].severity == severity
    assert words in found[0].message
    assert found[0].repair


def test_a_tensor_that_recovers_and_falls_ill_again_is_named_again() -> None:
    moments = []
    for step in range(30):
        dead = 1.0 if step < 6 or step >= 15 else 0.0
        moments.append(tensors(step, {"input/relu": {"max": 1.0, "dead": dead}}))
    assert [each.step for each in said("dead_relu", moments)] == [3, 18]


@pytest.mark.parametrize(
    ("rule", "asked", "changes", "step"),
    [
        ("vanishing_gradient", "threshold=1e-3", {}, 0),
        ("vanishing_gradient", "threshold=1e-7", {}, None),
        ("all_zero", "threshold=30,tensor_regex=^gradient/", {"gradient_body_weight": {"zeros": 0.4}}, 2),
        ("all_zero", "threshold=30,tensor_regex=^weight/", {"gradient_body_weight": {"zeros": 0.4}}, None),
        ("weight_update_ratio", "large_threshold=1e-4", {}, 0),
        ("weight_update_ratio", "small_threshold=1e-2", {}, 0),
        ("weight_update_ratio", "large_threshold=1", {}, None),
        ("dead_relu", "threshold_layer=50", {"input_relu": {"dead": 0.6}}, 3),
        ("tensor_variance", "max_threshold=0.5,tensor_regex=^input/relu", {}, 0),
        ("tensor_variance", "min_threshold=2,tensor_regex=^weight/", {}, 0),
        ("check_input_images", "threshold_mean=0.2,threshold_samples=64", {"inputs": {"mean": 0.3}}, 1),
        ("check_input_images", "threshold_mean=0.2,threshold_samples=64", {}, None),
        ("poor_weight_initialization", "distribution_range=0.01", {}, 0),
        ("exploding_tensor", "only_nan=true", {"gradient_body_weight": {"l2": np.inf, "nonfinite": 0.0}}, None),
        ("exploding_tensor", "tensor_regex=^weight/", {"gradient_body_weight": {"l2": np.inf}}, None),
    ],
)  # fmt: skip
def test_sagemakers_parameters_decide_where_they_are_given(
    rule: str, asked: str, changes: dict[str, dict[str, float]], step: int | None
) -> None:
    found = said(rule, run(**changes), asked=asked)
    assert ([each.step for each in found] or [None])[0] == step


def test_unchanged_by_tolerance() -> None:
    moments = [
        tensors(step, {"weight/body.weight": {"mean": 1.0, "l2": 1.0 + (1e-7 if step % 2 else 0), "std": 1.0}})
        for step in range(8)
    ]
    assert said("unchanged_tensor", moments) == []
    [found] = said("unchanged_tensor", moments, asked="num_steps=3,rtol=1e-5")
    assert found.step == 3


def test_a_frozen_weight_is_allowed_to_stay() -> None:
    frozen = facts(parameters=[parameter("body.weight", trainable=False)])
    still = [tensors(step, {"weight/body.weight": {"l2": 1.0}, "update/body.weight": {"l2": 0.0}}) for step in range(9)]
    assert said("unchanged_tensor", still, frozen) == []


# ---------------------------------------------------------------------------------------------- losses


def noisy(values: np.ndarray, seed: int = 0) -> list[Moment]:
    return losses((values + 0.1 * np.random.default_rng(seed).normal(size=len(values))).tolist())


def test_a_loss_that_explodes_is_told_at_its_step() -> None:
    [found] = said("exploding_tensor", losses([2.3, 2.2, 2.4, 1199.0, 3.0]))
    assert (found.step, found.severity) == (3, "error")
    [found] = said("exploding_tensor", losses([2.3, 2.2, float("nan")]))
    assert found.step == 2
    assert said("exploding_tensor", losses([0.01, 0.5, 2.0, 9.0])) == []  # from a network that knew its classes


def test_a_loss_that_stands_is_named_once_and_one_that_falls_is_not() -> None:
    [found] = said("loss_not_decreasing", noisy(np.full(400, 2.3)))
    assert "guessing" in found.message
    assert said("loss_not_decreasing", noisy(2.3 * np.exp(-np.arange(400) / 200))) == []
    assert said("loss_not_decreasing", noisy(np.full(400, 0.3))) == []  # it has learnt what there is


def test_a_loss_that_rises_is_an_error() -> None:
    [found] = said("loss_not_decreasing", noisy(np.linspace(1.0, 3.0, 100)))
    assert found.severity == "error"
    assert found.step == 23
    assert found.repair == "Lower --lr from 0.1 to 0.01."


def test_few_noisy_losses_say_nothing() -> None:
    draw = np.random.default_rng(1)
    for seed in range(20):
        values = losses((2.0 - 0.005 * np.arange(60) + draw.normal(size=60) * 0.3 + 0 * seed).tolist())
        assert said("loss_not_decreasing", values) == []


def test_sagemakers_own_example_of_a_loss_that_does_not_decrease() -> None:
    """The three losses after the first are never 10 % below it: the rule fires at the third of them."""
    values = losses([0.30, 0.33, 0.31, 0.30, 0.28, 0.10])
    [first, *_] = said("loss_not_decreasing", values, asked="num_steps=3,diff_percent=10,increase_threshold_percent=50")
    assert first.step == 3


# ---------------------------------------------------------------------------------------------- validation


def epochs(train: list[float], valid: list[float], n: int = 500, **more: list[float]) -> list[Moment]:
    found = []
    for place, (a, b) in enumerate(zip(train, valid, strict=True)):
        told: dict[str, Any] = {"train_accuracy": a, "valid_accuracy": b, "train_loss": 1 - a, "valid_loss": 1 - b}
        told |= {key: values[place] for key, values in more.items()}
        found.append(told)
    return validations(found)


SIZES = {"samples": 1000, "valid_samples": 500}


def test_a_certain_gap_is_overfitting_and_a_small_sample_is_not() -> None:
    moments = epochs([0.7, 0.95, 1.0, 1.0, 1.0], [0.7, 0.74, 0.74, 0.74, 0.74])
    [found] = said("overfit", moments, facts(**SIZES))
    assert found.step == 39
    assert found.evidence["low"] > 0.15
    assert said("overfit", moments, facts(samples=1000, valid_samples=29)) == []
    assert said("overfit", epochs([0.7, 0.9, 0.97, 0.97], [0.7, 0.85, 0.89, 0.89]), facts(**SIZES)) == []


def test_batch_norm_that_lags_in_the_first_epochs_is_no_overfitting() -> None:
    climbing = epochs([0.4, 0.83, 0.96, 0.98, 0.99], [0.12, 0.49, 0.7, 0.85, 0.94])
    assert said("overfit", climbing, facts(**SIZES)) == []


def test_overfit_by_sagemakers_ratio() -> None:
    moments = epochs([0.5] * 4, [0.5, 0.44, 0.44, 0.44])
    [found] = said("overfit", moments, facts(**SIZES), asked="ratio_threshold=0.1,patience=1")
    assert found.step == 29


def test_overtraining_is_information_until_accuracy_falls_for_certain() -> None:
    flat = epochs([0.9] * 14, [0.5, 0.6, *[0.6] * 12], valid_loss=[1.0, 0.5, *[0.6] * 12])
    [found] = said("overtraining", flat, facts(**SIZES))
    assert (found.severity, found.repair[:30]) == ("info", "End after 2 epochs: --epochs 2")
    falling = epochs([0.9] * 14, [0.5, 0.9, *[0.6] * 12], valid_loss=[1.0, 0.5, *[0.6] * 12])
    assert said("overtraining", falling, facts(**SIZES))[0].severity == "warning"


def test_imbalance_by_counts_and_what_makes_up_for_it() -> None:
    moment = [Moment(0, scalars={"loss": 1.0})]
    known = {"class_counts": [500, 10, 200], "classes": ["a", "b", "c"]}
    [found] = said("class_imbalance", moment, facts(**known))
    assert "b" in found.message
    assert found.severity == "warning"
    assert said("class_imbalance", moment, facts(class_weights="balanced", **known))[0].severity == "info"
    assert said("class_imbalance", moment, facts(class_counts=[50, 10, 20])) == []
    [empty] = said("class_imbalance", moment, facts(class_counts=[50, 0, 20]))
    assert empty.severity == "error"


def table(rows: dict[tuple[int, int], int], classes: int = 10, each: int = 20) -> np.ndarray:
    counts = np.eye(classes, dtype=np.int64) * each
    for (true, guessed), count in rows.items():
        counts[true, true] -= count
        counts[true, guessed] += count
    return counts


def test_confusion_of_two_classes_needs_certainty() -> None:
    swapped = [{"valid_accuracy": 0.8, "valid_confusion": table({(2, 7): 19, (7, 2): 18})}] * 4
    [found] = said("confusion", validations(swapped))
    assert "class 2" in found.message
    assert "class 7" in found.message
    assert said("confusion", validations([{"valid_accuracy": 1.0, "valid_confusion": table({})}] * 4)) == []
    few = [{"valid_accuracy": 0.8, "valid_confusion": table({(2, 7): 12})}] * 4
    assert said("confusion", validations(few)) == []


def test_an_identity_matrix_passes_sagemakers_confusion_and_one_wrong_cell_does_not() -> None:
    identity = validations([{"valid_accuracy": 1.0, "valid_confusion": table({})}] * 2)
    assert said("confusion", identity, asked="min_diag=0.9,max_off_diag=0.1") == []
    wrong = validations([{"valid_accuracy": 1.0, "valid_confusion": table({(1, 3): 3})}] * 2)
    [found] = said("confusion", wrong, asked="min_diag=0.9,max_off_diag=0.1")
    assert "class 1 for class 3" in str(found.evidence)


def test_a_class_that_is_never_named() -> None:
    silent = [{"valid_accuracy": 0.9, "valid_confusion": table({(4, 1): 20})}] * 5
    [found] = said("class_never_predicted", validations(silent))
    assert found.message.startswith("class 4 is never predicted")
    early = [{"valid_accuracy": 0.6, "valid_confusion": table({(4, 1): 20})}] * 2
    assert (
        said("class_never_predicted", validations([*early, {"valid_accuracy": 1.0, "valid_confusion": table({})}]))
        == []
    )


# ---------------------------------------------------------------------------------------------- time


def test_a_stall_is_told_by_the_clock_once_and_ends_with_the_next_step() -> None:
    engine = Engine(facts(), strict=True)
    for step in range(10):
        engine.feed(Moment(step, time=1000.0 + step, scalars={"loss": 1.0}))
    engine.flush()
    assert engine.tick(1030.0) == []
    [found] = engine.tick(1100.0)
    assert found.rule == "stalled_training"
    assert engine.tick(1200.0) == []
    engine.feed(Moment(11, time=1300.0, scalars={"loss": 1.0}))
    engine.flush()
    assert len(engine.tick(3000.0)) == 1
    patient = Engine(facts(), ["stalled_training:threshold=500"], strict=True)
    for step in range(10):
        patient.feed(Moment(step, time=1000.0 + step, scalars={"loss": 1.0}))
    patient.flush()
    assert patient.tick(1400.0) == []
    assert len(patient.tick(1600.0)) == 1
