"""What is decided before a training: by the minutes it takes, for inputs of another size, and said in one line."""

import logging
import re

import pytest
import torch

from houndsight.errors import SpecError
from houndsight.models.network import Network, build
from houndsight.spec import ClassifierSpec, Index, Split
from houndsight.training import plan
from tests.training.toy import same, weights


def request(**settings: object) -> ClassifierSpec:
    given = {"data": "-", "backbone": "squeezenet1_1", "weights": "none", "image_size": 32, "threads": 1, **settings}
    return ClassifierSpec.create(**given)


@pytest.fixture(scope="module")
def network() -> Network:
    return build(request(freeze="none"), 3).network


def index(*counts: int) -> Index:
    labels = tuple(label for label, count in enumerate(counts) for _ in range(count))
    column = Split(paths=tuple(f"{at}.png" for at in range(len(labels))), labels=labels, sizes=(1,) * len(labels))
    names = tuple(f"class {label}" for label in range(len(counts)))
    return Index(root="/data", classes=names, splits={"train": column, "valid": column}, fingerprint="0" * 64)


def test_minutes_decide_where_nothing_is_asked_for(
    network: Network, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "houndsight")
    assert plan.decide(request(), network, index(20, 20, 20)).recipe == "lp-ft"
    assert caplog.text == ""
    monkeypatch.setattr(plan, "AFFORDABLE_MINUTES", 0.0)
    assert plan.decide(request(), network, index(20, 20, 20)).recipe == "linear"
    assert "Fine-tuning would take about" in caplog.text
    assert plan.decide(request(recipe="lp-ft"), network, index(20, 20, 20)).recipe == "lp-ft"


def test_asking_for_a_smaller_first_size_asks_for_fine_tuning(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "AFFORDABLE_MINUTES", 0.0)
    assert plan.decide(request(first_size=24), network, index(20, 20, 20)).recipe == "lp-ft"


def test_measuring_leaves_weights_gradients_and_generators_alone(network: Network) -> None:
    before, generator, threads = weights(network), torch.get_rng_state(), torch.get_num_threads()
    assert plan.seconds_a_step(network, request(batch_size=4, threads=threads + 1), torch.device("cpu")) > 0
    assert same(weights(network), before)
    assert all(each.grad is None for each in network.parameters())
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_num_threads() == threads
    assert network.training


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [({"epochs": 4}, 2), ({"epochs": 5}, 2), ({"steps": 6}, 1), ({"steps": 7}, 1), ({"steps": 10}, 2)],
)
def test_the_first_half_is_of_whole_epochs(network: Network, settings: dict[str, int], epochs: int) -> None:
    found = plan.small_epochs(request(first_size=24, batch_size=20, **settings), network, index(20, 20, 20))
    assert found == (24, epochs)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"first_size": 32}, "not smaller than the input of 32"),
        ({"first_size": 8}, "takes no input of 8 pixels"),
        ({"first_size": 24, "epochs": 1}, "no first half"),
    ],
)
def test_a_first_size_that_does_nothing_or_fits_nothing_is_refused(
    network: Network, settings: dict[str, int], said: str
) -> None:
    network.train()
    with pytest.raises(SpecError, match=said):
        plan.small_epochs(request(**settings), network, index(20, 20, 20))
    assert network.training


def test_no_first_size_no_first_half(network: Network) -> None:
    assert plan.small_epochs(request(), network, index(2, 2, 2)) is None


def test_one_line_says_what_comes(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "houndsight")
    uneven = index(20, 7, 33)
    tuned, linear = (plan.decide(request(device="cpu", recipe=name), network, uneven) for name in ("lp-ft", "linear"))
    plan.announce(tuned, network, uneven, 2_500_000_000, quiet)
    plan.announce(linear, network, index(9, 9, 9), 0, quiet)
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith("Recipe lp-ft on cpu in ")
    said = ": 3 classes of 7 to 33 training images, 500 steps of 32 images, about [0-9]+ (seconds|minutes); 2.50 GB"
    assert re.search(said, first)
    assert second.endswith("3 classes of 9 training images, a linear head in closed form; 0.00 GB on disk.")


def quiet(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


@pytest.mark.parametrize(("said", "corrected"), [(1e9, True), (1e-9, True), (0.0, False)])
def test_the_first_steps_correct_the_expected_time(
    said: float, corrected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "houndsight")
    seen: list[tuple[str, int, int]] = []
    expected = plan.Expected(said, lambda *told: seen.append(told))
    for step in range(1, 40):
        expected("train", step, 40)
    assert seen == [("train", step, 40) for step in range(1, 40)]
    assert caplog.text.count("By its first steps the training takes about") == corrected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"recipe": "linear", "optimizer": "adamw"}, "optimizer is adamw"),
        ({"recipe": "lp-ft", "hidden": (8,)}, "hidden"),
        ({"views": 4}, "views"),
        ({"views": 4, "augment": "trivial", "freeze": "none"}, "views"),
        ({"recipe": "plain", "first_size": 24, "freeze": "all"}, "first_size"),
    ],
)
def test_settings_that_rule_each_other_out_are_refused(
    network: Network, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        plan.decide(request(**settings), network, index(20, 20, 20))


@pytest.mark.parametrize("settings", [{"recipe": "linear", "optimizer": "lbfgs"}, {"optimizer": "lbfgs"}])
def test_lbfgs_by_name_is_the_linear_recipe(network: Network, settings: dict[str, object]) -> None:
    assert plan.decide(request(**settings), network, index(20, 20, 20)).recipe == "linear"


def test_none_leaves_a_setting_to_the_recipe(network: Network) -> None:
    found = plan.decide(request(recipe="plain", lr=None, weight_decay=None), network, index(20, 20, 20))
    assert (found.lr, found.weight_decay) == (1e-3, 0.01)
