"""The moving average: its numbers by hand, what it is of, and that a training with it goes on bit for bit."""

from pathlib import Path

import pytest
import torch
from torch import nn

from houndsight.training.average import Average
from houndsight.training.checkpoint import load
from tests.training.test_resume import stopped_at, undisturbed
from tests.training.toy import network, run, same, separable, spec, weights


def test_the_numbers_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(0.0)
    average = Average(net, 0.5)
    expected = 0.0
    for step in range(1, 20):
        net.weight.data.fill_(float(step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert average.tensors["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert net.weight.item() == 19.0
    assert min(0.5, 2 / 11) < 0.5 == min(0.5, 9 / 18)  # the rising decay and its ceiling were both met


def test_it_is_of_what_trains_and_costs_nothing_without_a_decay() -> None:
    net = network()
    net[0].requires_grad_(False)
    assert set(Average(net, 0.9).tensors) == {"1.weight", "1.bias", "4.weight", "4.bias"}
    none = Average(net, 0.0)
    before = weights(net)
    none.update(1)
    with none.swapped():
        assert same(weights(net), before)
    assert none.tensors == {}


def test_swapped_gives_the_weights_back_after_an_error_too() -> None:
    net = network()
    average = Average(net, 0.9)
    averaged = {name: each.clone() for name, each in average.tensors.items()}
    with torch.no_grad():
        for each in net.parameters():
            each.add_(1.0)
    before = weights(net)
    with pytest.raises(ZeroDivisionError):
        _fail_inside(average, net, averaged)
    assert same(weights(net), before)
    assert same(average.tensors, averaged)


def _fail_inside(average: Average, net: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    with average.swapped():
        assert all(torch.equal(each, expected[name]) for name, each in net.named_parameters())
        _ = 1 / 0


def test_the_average_keeps_the_layout_of_its_weight() -> None:
    net = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    average = Average(net, 0.9)
    average.update(1)
    assert average.tensors["weight"].is_contiguous(memory_format=torch.channels_last)


def test_a_training_ends_with_the_averages(tmp_path: Path) -> None:
    settings = {"epochs": 1, "lr": 0.05, "ema": 0.9}
    averaged, last = network(), network()
    run(tmp_path / "ema", averaged, separable(), spec(**settings))
    run(tmp_path / "last", last, separable(), spec(**settings | {"ema": 0.0}))
    saved = load(tmp_path / "ema" / "checkpoints")
    assert saved is not None
    ended, plain = weights(averaged), weights(last)
    for name, each in saved.average.items():
        assert torch.equal(ended[name], each)
        assert torch.equal(saved.model[name], plain[name])  # the weights themselves go their way as without it
        assert not torch.equal(each, plain[name])
    assert torch.equal(ended["1.running_mean"], plain["1.running_mean"])


@pytest.mark.parametrize("steps", [1, 7, 10, 25])
def test_stop_and_go_on(tmp_path: Path, steps: int) -> None:
    expected = undisturbed(tmp_path, ema=0.95)
    stopped_at(tmp_path, steps, ema=0.95)
    net = network(seed=5)
    run(tmp_path, net, separable(), spec(ema=0.95))
    assert same(weights(net), expected)


def test_stop_while_the_averages_are_validated(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path, ema=0.95)
    stopped_at(tmp_path, 10, validating=3, ema=0.95)
    net = network(seed=5)
    run(tmp_path, net, separable(), spec(ema=0.95))
    assert same(weights(net), expected)
