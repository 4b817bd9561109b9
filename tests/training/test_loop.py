"""The loop: it learns, repeats itself bit for bit, ends when it should and refuses what is not finite."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from houndsight.data.loader import Batch
from houndsight.errors import DataError, NonFiniteLossError, SpecError
from houndsight.records.reader import Records
from houndsight.records.writer import RecordWriter
from houndsight.training.checkpoint import State, load
from houndsight.training.observe import Tally
from houndsight.training.optim import build_optimizer
from houndsight.training.watched import Watched
from tests.training import toy
from tests.training.toy import blobs, network, run, same, separable, spec, weights


def curve(folder: Path, name: str, mode: str = "train") -> list[float]:
    return list(Records(folder / "records").curve(name, mode)[1])


def test_learns_a_separable_problem(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    fitted = run(tmp_path, network(), separable(), spec(), progress=lambda *args: told.append(args))
    assert (fitted.steps, fitted.epochs, fitted.stopped) == (30, 3, False)
    assert curve(tmp_path, "accuracy", "valid")[-1] > 0.95
    assert told == [("train", step, 30) for step in range(1, 31)]
    assert len(curve(tmp_path, "loss")) == len(curve(tmp_path, "lr")) == 30
    assert len(curve(tmp_path, "loss", "valid")) == len(curve(tmp_path, "epoch_loss")) == 3


def test_same_seed_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    found = []
    for place, seed in enumerate((0, 0, 1)):
        net = network()
        run(tmp_path / str(place), net, separable(), spec(seed=seed))
        found.append(weights(net))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])  # dropout draws other masks


def test_leaves_threads_and_generators_of_the_caller_alone(tmp_path: Path) -> None:
    net, threads = network(), torch.get_num_threads()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run(tmp_path, net, separable(), spec(threads=threads + 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_spans_sum_to_the_wall_time(tmp_path: Path) -> None:
    run(tmp_path, network(), separable(), spec(epochs=5, checkpoint_seconds=0))
    spans = Records(tmp_path / "records").spans()
    names = {each.name for each in spans}
    assert names == {"data", "copy", "forward", "backward", "optimizer", "evaluate", "checkpoint", "fit"}
    wall = max(each.start + each.seconds for each in spans) - min(each.start for each in spans)
    assert sum(each.seconds for each in spans) == pytest.approx(wall, abs=1e-4)
    assert [each.step for each in spans] == sorted(each.step for each in spans)


def test_epoch_accuracy_counts_every_image(tmp_path: Path) -> None:
    """Without learning, dropout and shuffling's effect, the running accuracy is that of the network as it stands."""
    net = network(dropout=0.0)
    net[1] = nn.Identity()
    batches = separable()
    images, labels = batches.splits["train"]
    with torch.no_grad():
        logits = net(images)
    expected = float((logits.argmax(1) == labels).float().mean())
    run(tmp_path, net, batches, spec(epochs=1, lr=1e-30, weight_decay=0))
    assert curve(tmp_path, "accuracy") == [pytest.approx(expected)]
    assert curve(tmp_path, "epoch_loss") == [
        pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    ]


def test_steps_instead_of_epochs(tmp_path: Path) -> None:
    fitted = run(tmp_path, network(), separable(), spec(steps=13))
    assert (fitted.steps, fitted.epochs) == (13, 2)
    assert list(Records(tmp_path / "records").curve("loss", "valid")[0]) == [9, 12]  # the end is always evaluated


def test_ten_epochs_where_nothing_is_said(tmp_path: Path) -> None:
    assert run(tmp_path, network(), separable(), spec(epochs=None)).epochs == 10


def test_early_stopping_ends_with_the_best_weights(tmp_path: Path) -> None:
    images, labels = blobs(seed=2)
    batches = toy.Tensors({"train": blobs(seed=1), "valid": (images, (labels + 1) % toy.CLASSES)})
    settings = {"schedule": "constant", "warmup": 0.0}
    best, net = network(), network()
    run(tmp_path / "one", best, batches, spec(epochs=1, **settings))
    fitted = run(tmp_path / "many", net, batches, spec(epochs=50, early_stopping=2, **settings))
    assert (fitted.epochs, fitted.best_epoch) == (3, 1)
    assert same(weights(net), weights(best))


@pytest.mark.parametrize("monitor", ["loss", "accuracy"])
def test_best_by_the_monitored_value(tmp_path: Path, monitor: str) -> None:
    noisy = toy.Tensors({"train": blobs(40, spread=1.6, seed=1), "valid": blobs(200, spread=1.6, seed=2)})
    fitted = run(tmp_path, network(), noisy, spec(epochs=25, lr=0.03, monitor=monitor))
    losses, accuracies = curve(tmp_path, "loss", "valid"), curve(tmp_path, "accuracy", "valid")
    by_loss, by_accuracy = losses.index(min(losses)) + 1, accuracies.index(max(accuracies)) + 1
    assert by_loss != by_accuracy, "the case does not tell the two apart"
    assert fitted.best_epoch == (by_loss if monitor == "loss" else by_accuracy)


def test_frozen_parameters_stay_and_are_not_written(tmp_path: Path) -> None:
    net = network()
    net[0].requires_grad_(False)
    before = weights(net)
    run(tmp_path, net, separable(), spec())
    after = weights(net)
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["4.weight"], after["4.weight"])
    saved = load(tmp_path / "checkpoints")
    assert saved is not None
    assert "0.weight" not in saved.model
    assert "1.running_mean" in saved.model


def test_nothing_to_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="nothing is left to train"):
        run(tmp_path, network().requires_grad_(False), separable(), spec())


def test_no_batch_is_refused(tmp_path: Path) -> None:
    batches = separable()
    batches.steps_per_epoch = 0
    with pytest.raises(DataError, match="no batch to train on"):
        run(tmp_path, network(), batches, spec())


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(SpecError, match="no mps device"):
        run(tmp_path, network(), separable(), spec(device="mps"))


def test_bfloat16_where_it_is_asked_for(tmp_path: Path) -> None:
    net = network()
    run(tmp_path, net, separable(), spec(precision="bfloat16"))
    assert all(each.dtype == torch.float32 for each in net.parameters())
    assert curve(tmp_path, "accuracy", "valid")[-1] > 0.95


def test_a_convolutional_network_ends_contiguous(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, toy.CLASSES))
    images = torch.rand(16, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    batches = toy.Tensors({"train": (images, torch.arange(16) % 4), "valid": (images, torch.arange(16) % 4)})
    run(tmp_path, net, batches, spec(epochs=2))
    assert all(each.is_contiguous() for each in net.parameters())


# ------------------------------------------------------------------------------------------ not finite


class Planted(toy.Tensors):
    """Puts an infinity into one image of the third step."""

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for step, batch in enumerate(super().train(epoch, start), start):
            if step == 2:
                batch.images[3, 0] = float("inf")
            yield batch


def test_non_finite_loss_stops_before_the_step(tmp_path: Path) -> None:
    net = network()
    net[1] = nn.Identity()
    batches = Planted(separable().splits)
    before: dict[str, torch.Tensor] = {}

    def progress(stage: str, done: int, total: int) -> None:
        before.update(weights(net))

    with pytest.raises(NonFiniteLossError) as caught:
        run(tmp_path, net, batches, spec(lr=0.5), progress=progress)
    assert same(weights(net), before)
    assert "step 2" in caught.value.message
    victim = list(separable().train(0))[2].ids[3].item()
    assert f"Only the outputs for image {victim} are not finite" in caught.value.message
    assert "houndsight check" in caught.value.repair
    assert curve(tmp_path, "loss")[2] != curve(tmp_path, "loss")[2] or curve(tmp_path, "loss")[2] == float("inf")


def test_non_finite_loss_of_a_wild_learning_rate_names_a_tenth(tmp_path: Path) -> None:
    net = nn.Linear(toy.WIDTH, toy.CLASSES)
    images, labels = blobs()
    batches = toy.Tensors({"train": (images * 1e30, labels), "valid": (images, labels)})
    with pytest.raises(NonFiniteLossError, match=r"learning rate 9\.97") as caught:
        run(tmp_path, net, batches, spec(lr=10.0, optimizer="sgd", warmup=0.0))
    assert "--lr 1." in caught.value.repair
    assert "--precision" not in caught.value.repair  # it is float32 already


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_deferred_refusal_keeps_the_weights_of_before(tmp_path: Path, optimizer: str) -> None:
    """What a GPU does: the flag makes the optimizer skip the bad step and all later ones, the error comes later."""
    net, settings = network(), spec(optimizer=optimizer)
    net[1] = nn.Identity()
    moving = build_optimizer(net, settings)
    state = State()
    kept: dict[str, torch.Tensor] = {}
    with RecordWriter(tmp_path) as records:
        watch = Watched(None, records)
        tally = Tally(state, records, net, moving, watch=watch, lower="", deferred=True)
        for batch in separable().train(0):
            if state.step == 4:
                batch.images[0, 0] = float("nan")
                kept = weights(net)
            logits = net(batch.images)
            loss = nn.functional.cross_entropy(logits, batch.labels)
            tally.note(0.01, batch, loss, logits, batch.labels)
            loss.backward()  # type: ignore[no-untyped-call]
            moving.step()
            moving.zero_grad()
            state.step += 1
        assert not same(kept, weights(network()))
        assert same(kept, weights(net))
        with pytest.raises(NonFiniteLossError, match="step 4"):
            tally.settle()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_trains_and_refuses_on_a_gpu(tmp_path: Path) -> None:
    assert run(tmp_path / "good", network(), separable(), spec(device="cuda")).epochs == 3
    net = network()
    net[1] = nn.Identity()
    with pytest.raises(NonFiniteLossError, match="step 2"):
        run(tmp_path / "bad", net, Planted(separable().splits), spec(device="cuda"))
    assert all(bool(torch.isfinite(each).all()) for each in net.parameters())
