"""The rules of our own, on moments made by hand: what they name, at which step, and what they leave in peace."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from houndsight.records.rules.engine import Engine
from houndsight.records.rules.moment import Moment, Samples

from .feeding import facts, losses, parameter, said, standing, tensors, validations


def outputs(**of: float) -> Iterator[Moment]:
    for step in range(8):
        yield tensors(
            step, {"outputs": {"mean": 0.0, "std": 1.0, "min": -3.0, "max": 3.0, "zeros": 0.0, **of}}, loss=2.0
        )


@pytest.mark.parametrize(
    ("of", "modules", "message", "repair"),
    [
        ({"min": 0.0, "zeros": 0.5}, [{"name": "fc", "type": "Linear"}, {"name": "fc_relu", "type": "ReLU"}],
         "fc_relu (ReLU)", "Remove the ReLU from the end of the network (fc_relu)"),
        ({"min": 0.0, "zeros": 0.5}, [{"name": "fc", "type": "Linear"}], "the last operation, behind fc (Linear)",
         "Remove the ReLU"),
        ({"min": 0.0, "max": 0.9, "mean": 0.1}, [{"name": "soft", "type": "Softmax"}], "cannot fall below 1.46",
         "Remove the softmax (soft)"),
        ({"min": 0.01, "max": 0.9, "mean": 0.4}, [{"name": "s", "type": "Sigmoid"}], "sigmoid",
         "Remove the sigmoid (s)"),
    ],
)  # fmt: skip
def test_outputs_that_are_no_logits_are_named_with_layer_and_repair(
    of: dict[str, float], modules: list[dict[str, str]], message: str, repair: str
) -> None:
    [found] = said("head_outputs", outputs(**of), facts(modules=modules))
    assert found.severity == "error"
    assert found.step == 3
    assert message in found.message
    assert found.repair.startswith(repair)


def test_what_the_loss_is_given_counts_more_than_what_the_network_returns() -> None:
    moments = [
        tensors(step, {"outputs": {"mean": 0, "min": -2, "max": 2}, "logits": {"mean": 0.1, "min": 0.0, "max": 0.8}})
        for step in range(8)
    ]
    [found] = said("head_outputs", moments)
    assert "softmax" in found.message


def test_nll_loss_wants_log_probabilities_and_bce_probabilities() -> None:
    [found] = said("head_outputs", outputs(), facts(loss="nll_loss"))
    assert "log_softmax" in found.message or "logarithms" in found.message
    assert said("head_outputs", outputs(min=-9.0, max=-0.01, mean=-2.3), facts(loss="nll_loss")) == []
    assert said("head_outputs", outputs(min=0.0, max=1.0, mean=0.1), facts(loss="binary_cross_entropy")) == []


def test_the_first_loss_against_guessing() -> None:
    [found] = said("initial_loss", losses([9.0, 2.0, 2.0]))
    assert "ln(10) = 2.3" in found.message
    assert said("initial_loss", losses([2.9, 9.0, 9.0])) == []
    [unknown] = standing("initial_loss", losses([9.0] * 3), facts(num_classes=None))
    assert unknown.status == "NotApplicable"


def channels(low: float, high: float) -> list[Moment]:
    rows = {f"inputs/{channel}": {"min": low, "max": high, "mean": 0.4, "std": 0.2} for channel in range(3)}
    return [tensors(step, rows) for step in range(3)]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.0, 1.0, "not normalised"), (-1.0, 1.0, "-1..1"), (0.0, 255.0, "not scaled"), (-2.1, 2.6, ""),
        (-1.8, 2.2, ""),
    ],
)  # fmt: skip
def test_inputs_of_a_pretrained_network(low: float, high: float, words: str) -> None:
    found = said("input_preprocessing", channels(low, high), facts(pretrained=True))
    assert bool(found) == bool(words)
    if found:
        assert words in found[0].message
        assert "Normalize(mean=[0.485, 0.456, 0.406]" in found[0].repair
    [fresh] = standing("input_preprocessing", channels(low, high), facts(pretrained=False))
    assert fresh.status == "NotApplicable"


def test_a_network_that_wants_pixels_from_0_to_1_is_given_them() -> None:
    plain = facts(pretrained=True, preprocess={"mean": [0, 0, 0], "std": [1, 1, 1]})
    assert said("input_preprocessing", channels(0.0, 1.0), plain) == []
    assert said("input_preprocessing", channels(-2.1, 2.6), plain)[0].severity == "warning"


def test_pretrained_weights_are_known_by_their_tails() -> None:
    wide = {f"weight/{n}": {"l2": 1.0, "std": 0.05, "min": -0.4, "max": 0.4} for n in "abc"}
    known = facts(parameters=[parameter(name) | {"shape": [64, 640]} for name in "abc"])
    rows = {f"inputs/{channel}": {"min": 0.0, "max": 1.0} for channel in range(3)}
    moments = [tensors(step, {**wide, **rows}) for step in range(3)]
    assert len(said("input_preprocessing", moments, known)) == 1
    fresh = {name: of | {"min": -0.17, "max": 0.17} for name, of in wide.items()}
    assert said("input_preprocessing", [tensors(s, {**fresh, **rows}) for s in range(3)], known) == []


BODY = {"weight/body.weight": {"l2": 1.0}, "gradient/body.weight": {"l2": 1.0}, "weight/fc.weight": {"l2": 1.0}}


@pytest.mark.parametrize(
    ("changes", "words", "step"),
    [
        ([{}, {"in_optimizer": False}], "fc: 1 trainable parameters are in no optimizer", 0),
        ([{"trainable": False}, {"trainable": False}], "The last layer, fc, is frozen, as is everything else", 0),
        ([{}, {"trainable": False}], "The last layer, fc, is frozen", 0),
        ([{}, {}], "fc.weight: trainable, but without a gradient", 4),
    ],
)
def test_parameters_that_cannot_learn(changes: list[dict[str, Any]], words: str, step: int) -> None:
    every = [parameter(name) | change for name, change in zip(("body.weight", "fc.weight"), changes, strict=True)]
    known = facts(parameters=every, modules=[{"name": "fc", "type": "Linear"}])
    found = said("optimizer_coverage", [tensors(step, BODY) for step in range(6)], known)
    assert words in found[0].message
    assert found[0].step == step


def test_frozen_at_random_is_told_by_the_facts_or_by_batch_norms_that_saw_nothing() -> None:
    every = [parameter("body.weight", trainable=False), parameter("fc.weight")]
    unseen = {
        f"buffer/body.{n}.running_var": {"mean": 1.0, "std": 0.0, "l2": 8.0} for n in (1, 2)
    }  # as they are before any image
    moments = [tensors(step, {**BODY, **unseen}) for step in range(2)]
    [found] = said("optimizer_coverage", moments, facts(parameters=every))
    assert "random weights" in found.message
    seen = {name: {"mean": 0.7, "std": 0.2, "l2": 8.0} for name in unseen}
    assert said("optimizer_coverage", [tensors(0, {**BODY, **seen})], facts(parameters=every)) == []
    assert said("optimizer_coverage", moments, facts(parameters=every, pretrained=True)) == []


def test_modes_of_training_and_validation() -> None:
    norm = facts(parameters=[parameter("bn.weight", kind="norm")])
    asleep = [Moment(step, scalars={"training": 0.0, "x": np.inf}) for step in range(4)]
    assert "eval mode while it trains" in said("wrong_mode", asleep, norm)[0].message
    awake = [Moment(step, "valid", scalars={"training": 1.0}) for step in range(2)]
    assert "validated" in said("wrong_mode", awake, norm)[0].message
    frozen = facts(parameters=[parameter("bn.weight", kind="norm", trainable=False)])
    assert said("wrong_mode", asleep, frozen) == []  # as it should be


def test_frozen_batch_norms_that_move() -> None:
    def drifting(rate: float) -> list[Moment]:
        return [tensors(step, {"buffer/bn.running_mean": {"l2": 1.0 + rate * step}}) for step in range(6)]

    frozen = facts(parameters=[parameter("bn.weight", kind="norm", trainable=False), parameter("fc.weight")])
    assert said("batchnorm_drift", drifting(0.02), frozen)[0].step == 2
    assert said("batchnorm_drift", drifting(0.0), frozen) == []
    trained = facts(parameters=[parameter("bn.weight", kind="norm")])
    assert standing("batchnorm_drift", drifting(0.02), trained)[0].status == "NotApplicable"


@pytest.mark.parametrize(("body", "head", "fires"), [(0.05, 0.05, True), (0.05, 0.5, False), (0.002, 0.01, False)])
def test_a_pretrained_backbone_that_is_overwritten(body: float, head: float, fires: bool) -> None:
    rows = {
        "weight/body.weight": {"l2": 1.0}, "weight/fc.weight": {"l2": 1.0},
        "update/body.weight": {"l2": body}, "update/fc.weight": {"l2": head},
    }  # fmt: skip
    found = said("update_balance", [tensors(step, rows) for step in range(8)], facts(pretrained=True))
    assert bool(found) == fires
    if fires:
        assert found[0].repair.startswith("Lower --lr from 0.1 to 0.002.")


def test_going_away_from_the_pretrained_weights_for_nothing() -> None:
    def course(accuracies: list[float]) -> list[Moment]:
        found = []
        for number, accuracy in enumerate(accuracies):
            far = {"distance/body.weight": {"l2": 0.1 * (number + 1)}, "weight/body.weight": {"l2": 1.0}}
            found.append(tensors(number * 10, far))
            found.append(Moment(number * 10, "valid", scalars={"accuracy": accuracy, "loss": 1.0}))
        return found

    known = facts(pretrained=True, valid_samples=500)
    [found] = said("forgetting", course([0.9, 0.9, 0.9, 0.89, 0.9]), known)
    assert found.severity == "info"
    assert said("forgetting", course([0.9, 0.8, 0.8, 0.8, 0.8]), known)[0].severity == "warning"
    assert said("forgetting", course([0.5, 0.6, 0.7, 0.8, 0.9]), known) == []


def test_learnt_but_guessing_on_validation() -> None:
    moments = validations([{"train_accuracy": 0.9, "valid_accuracy": 0.1, "train_loss": 0.3, "valid_loss": 3.0}] * 3)
    known = facts(samples=500, valid_samples=200)
    [found] = said("validation_at_chance", moments, known)
    assert found.severity == "error"
    assert "class_to_idx" in found.repair
    young = validations([{"train_accuracy": 0.1, "valid_accuracy": 0.1, "train_loss": 2.3, "valid_loss": 2.3}] * 3)
    assert said("validation_at_chance", young, known) == []


def test_eval_mode_worse_than_training_mode() -> None:
    def course(probe: float) -> list[Moment]:
        found = []
        for step in (9, 19, 29):
            found.append(Moment(step, scalars={"accuracy": 0.95, "epoch_loss": 0.2}))
            found.append(Moment(step, "probe", scalars={"accuracy": probe, "loss": 1.0}))
        return found

    known = facts(samples=1000, probe_samples=200)
    assert said("train_eval_gap", course(0.5), known)[0].step == 19
    assert said("train_eval_gap", course(0.93), known) == []


def epochs_of(wrong: dict[int, int], count: int = 5, size: int = 200) -> list[Moment]:
    ids = np.arange(size)
    found = []
    for epoch in range(count):
        images = np.array([6.0 if number in wrong else 0.05 for number in ids], np.float32)
        guesses = np.array([wrong.get(int(number), 0) for number in ids])
        found.append(Moment(epoch * 10 + 9, samples=Samples(ids, images, guesses)))
        found.append(Moment(epoch * 10 + 9, "valid", scalars={"loss": 0.1}))
    return found


def test_label_suspects_are_named_by_file_and_only_as_information() -> None:
    engine = Engine(facts(classes=[f"class-{n}" for n in range(10)]), strict=True)
    engine.know([f"train/{number}.png" for number in range(200)], None)
    for moment in epochs_of({7: 3, 150: 1}):
        engine.feed(moment)
    [found] = [each for each in engine.close() if each.rule == "label_suspects"]
    assert found.severity == "info"
    assert set(found.files) == {"train/7.png", "train/150.png"}
    assert found.evidence["looks_like"] == ["class-3", "class-1"]
    assert said("label_suspects", epochs_of({})) == []


def test_a_prediction_that_changes_is_no_suspicion() -> None:
    moments = [each for epoch in range(4) for each in epochs_of({7: epoch}, count=1)]
    assert said("label_suspects", moments) == []


def test_a_leak_by_equal_images() -> None:
    def seen(mode: str, keys: np.ndarray) -> Moment:
        zeros = np.zeros(len(keys))
        own = Samples(zeros.astype(np.int64), zeros.astype(np.float32), zeros.astype(np.int64), None, keys)
        return Moment(0, mode, samples=own)

    train, other = np.arange(100) / 7, np.arange(100, 150) / 7
    [found] = said("leakage", [seen("train", train), seen("valid", np.concatenate([other, train[:10]]))])
    assert "10 of 60" in found.message
    assert said("leakage", [seen("train", train), seen("valid", other)]) == []


def test_a_leak_that_the_data_check_found() -> None:
    def told(check: list[dict[str, Any]]) -> list[str]:
        engine = Engine(facts(), strict=True)
        engine.know((), check)
        return [each.status for each in engine.close() if each.rule == "leakage"]

    leak = {"rule": "near_leak", "severity": "error", "message": "Two.", "repair": "One.", "files": ["a", "b"]}
    assert told([leak]) == ["IssuesFound"]
    assert told([{"rule": "floor"}]) == ["NoIssuesFound"]


@pytest.mark.parametrize(("classes", "fires"), [(2.0, True), (9.0, False), (9.7, False)])
def test_batches_that_know_few_classes(classes: float, fires: bool) -> None:
    rows = {"outputs": {"mean": 0.0}}
    moments = [tensors(step, rows, distinct_labels=classes, batch=32.0) for step in range(20)]
    assert bool(said("not_shuffled", moments)) == fires


def test_the_same_batch_again_and_again() -> None:
    same = [tensors(step, {"inputs": {"mean": 0.1, "std": 1.0, "min": -1, "max": 1}}) for step in range(6)]
    assert said("repeated_batches", same)[0].step == 3
    assert said("repeated_batches", same, facts(steps_per_epoch=1)) == []
    fresh = [tensors(step, {"inputs": {"mean": 0.1 + step, "std": 1.0, "min": -1, "max": 1}}) for step in range(6)]
    assert said("repeated_batches", fresh) == []


def test_a_summed_loss() -> None:
    rows = {"outputs": {"mean": 0.0}}
    moments = [tensors(step, rows, loss=64.0, plain_loss=2.0, batch=32.0) for step in range(4)]
    [found] = said("loss_reduction", moments)
    assert "0.1 becomes 0.002" in found.repair
    assert said("loss_reduction", [tensors(s, rows, loss=2.1, plain_loss=2.0, batch=32.0) for s in range(4)]) == []


@pytest.mark.parametrize(
    ("name", "values", "fires"),
    [
        ("val_acc", [53.0, 61.0, 64.0, 70.0], True),
        ("val_acc", [0.0, 0.0, 0.0, 0.0], True),
        ("val_acc", [0.0, 0.0, 0.0, 1.0], False),
        ("val_acc", [53.0, 61.5, 64.0, 70.0], False),
        ("val_acc", [412.0], True),
        ("test loss", [2.0, 2.0, 1.0, 1.0], True),
        ("loss_scale", [65536.0] * 5, False),
        ("lr", [1.0, 1.0, 1.0, 1.0], False),
    ],
)
def test_metrics_that_were_divided_as_integers(name: str, values: list[float], fires: bool) -> None:
    assert bool(said("integer_metrics", losses(values, name))) == fires


def test_weights_that_shrink_away() -> None:
    def shrinking(rate: float) -> list[Moment]:
        rows = ({"weight/body.weight": {"l2": float(np.exp(-rate * step))}} for step in range(0, 120, 4))
        return [tensors(4 * at, row, loss=2.3) for at, row in enumerate(rows)]

    [found] = said("weight_decay", shrinking(0.01), facts(weight_decay=10.0))
    assert found.repair == "Lower --weight-decay from 10 to 0.01."
    assert said("weight_decay", shrinking(1e-4)) == []


def test_a_scaler_that_finds_no_scale() -> None:
    assert said("loss_scale", losses([2.0**k for k in range(16, 4, -1)], "loss_scale"))[0].step == 6
    assert said("loss_scale", losses([65536, 32768, 16384, *[16384] * 30], "loss_scale")) == []


def test_the_noise_scale_by_its_formula() -> None:
    """|G|^2 = 1 and tr(S) = 100: E|g_b|^2 = 1 + 100 / b."""
    moments = [
        Moment(
            step,
            scalars={
                "gradient_square_small": 1 + 100 / 16, "gradient_square_large": 1 + 100 / 32,
                "batch_small": 16.0, "batch_large": 32.0,
            },
        )
        for step in range(12)
    ]  # fmt: skip
    [found] = said("gradient_noise_scale", moments)
    assert found.severity == "info"
    assert found.evidence["noise_scale"] == pytest.approx(100)
    assert "--batch-size 128" in found.repair
