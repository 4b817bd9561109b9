"""Stopped, killed, torn or out of room: a training goes on from its last whole checkpoint, bit for bit."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from houndsight.errors import DiskFullError, JobError
from houndsight.training.checkpoint import Checkpoint, State, get_generators, load, save
from houndsight.training.loop import Fitted
from tests.training import toy
from tests.training.toy import network, run, same, separable, spec, weights

CPU = torch.device("cpu")


class After:
    """Says stop once `steps` steps are done, and `validating` batches of the validation that follows them."""

    def __init__(self, steps: int, validating: int = 0) -> None:
        self.steps, self.validating, self.done, self.asked = steps, validating, 0, 0

    def progress(self, stage: str, done: int, total: int) -> None:
        self.done = done

    def __call__(self) -> bool:
        self.asked += self.done >= self.steps
        return self.asked > self.validating


def stopped_at(folder: Path, step: int, validating: int = 0, **settings: object) -> Fitted:
    stop = After(step, validating)
    fitted = run(folder, network(), separable(), spec(**settings), stop=stop, progress=stop.progress)
    assert fitted.stopped
    return fitted


def undisturbed(folder: Path, **settings: object) -> dict[str, torch.Tensor]:
    net = network()
    run(folder / "undisturbed", net, separable(), spec(**settings))
    return weights(net)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("steps", [1, 7, 10, 25])
def test_stop_and_go_on(tmp_path: Path, optimizer: str, steps: int) -> None:
    expected = undisturbed(tmp_path, optimizer=optimizer)
    first = stopped_at(tmp_path, steps, optimizer=optimizer)
    assert first.steps == steps
    torch.manual_seed(99)  # another process has another history
    net = network(seed=5)
    second = run(tmp_path, net, separable(), spec(optimizer=optimizer))
    assert (second.steps, second.stopped) == (30, False)
    assert second.seconds > 0.5 * first.seconds  # what the first one spent counts, but for writing its last checkpoint
    assert same(weights(net), expected)


def test_stop_after_every_step(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path)
    for step in range(1, 30):
        assert stopped_at(tmp_path, step).steps == step
    net = network()
    assert run(tmp_path, net, separable(), spec()).steps == 30
    assert same(weights(net), expected)


def test_stop_in_the_middle_of_validation(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path)
    first = stopped_at(tmp_path, 10, validating=3)
    assert (first.steps, first.epochs) == (10, 0)
    net = network()
    run(tmp_path, net, separable(), spec())
    assert same(weights(net), expected)


def test_steps_that_end_inside_an_epoch_are_not_exceeded(tmp_path: Path) -> None:
    """Stopped in the last validation, after the last step: nothing may be trained on top of it."""
    expected = undisturbed(tmp_path, steps=13)
    assert stopped_at(tmp_path, 13, validating=3, steps=13).steps == 13
    net = network()
    assert run(tmp_path, net, separable(), spec(steps=13)).steps == 13
    assert same(weights(net), expected)


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    expected = network()
    run(tmp_path, expected, separable(), spec())
    net, told = network(), []
    fitted = run(tmp_path, net, separable(), spec(), progress=lambda *args: told.append(args))
    assert not told
    assert (fitted.steps, fitted.epochs, fitted.best_epoch) == (30, 3, 3)
    assert same(weights(net), weights(expected))


def test_channels_last_moments_come_back_in_their_layout(tmp_path: Path) -> None:
    images = torch.rand(24, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    split = (images, torch.arange(24) % toy.CLASSES)
    batches = toy.Tensors({"train": split, "valid": split})

    def fresh() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, toy.CLASSES)
        )

    expected, net = fresh(), fresh()
    run(tmp_path / "undisturbed", expected, batches, spec())
    stop = After(4)
    assert run(tmp_path, fresh(), batches, spec(), stop=stop, progress=stop.progress).steps == 4
    run(tmp_path, net, batches, spec())
    assert same(weights(net), weights(expected))


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    def start(folder: Path, every: str) -> "subprocess.Popen[str]":
        folder.mkdir(exist_ok=True)
        environment = os.environ | {"PYTHONPATH": str(Path(toy.__file__).parent)}
        command = [sys.executable, toy.__file__, str(folder), every]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        )

    with start(tmp_path / "whole", "60") as whole, start(tmp_path / "killed", "0") as victim:
        assert victim.stdin is not None
        assert victim.stdout is not None
        for line in victim.stdout:
            if int(line) == 17:  # its checkpoint is that of step 16, the eighth of the second epoch comes
                victim.kill()
                break
            victim.stdin.write("on\n")
            victim.stdin.flush()
        assert victim.wait() == -9
        assert not (tmp_path / "killed" / "final.pt").exists()
        saved = load(tmp_path / "killed" / "checkpoints")
        assert saved is not None
        assert (saved.state.step, saved.state.epoch, saved.state.batch) == (16, 1, 6)
        with start(tmp_path / "killed", "60") as resumed:
            assert resumed.wait() == 0
        whole.communicate()
    one, other = (torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("whole", "killed"))
    assert same(one, other)


# ----------------------------------------------------------------------------------------------- files


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    stopped_at(tmp_path, 7, checkpoint_seconds=0)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000006.safetensors", "step-000000007.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "rubbish", "header"])
def test_a_damaged_checkpoint_is_left_out(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    expected = undisturbed(tmp_path)
    stopped_at(tmp_path, 7, checkpoint_seconds=0)
    newest = tmp_path / "checkpoints" / "step-000000007.safetensors"
    data = bytearray(newest.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flip":
        data[-100] ^= 1
    elif damage == "empty":
        data = bytearray()
    elif damage == "rubbish":
        data = bytearray(os.urandom(len(data)))
    else:
        data[:8] = (2**62).to_bytes(8, "little")
    newest.write_bytes(data)
    found = load(tmp_path / "checkpoints")
    assert found is not None
    assert found.state.step == 6
    assert "is damaged and left out" in caplog.text
    net = network()
    run(tmp_path, net, separable(), spec())
    assert same(weights(net), expected)


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path) -> None:
    stopped_at(tmp_path, 3)
    half = tmp_path / "checkpoints" / ".step-000000004.safetensors.1.ab"
    half.write_bytes(b"half of it")
    load(tmp_path / "checkpoints")
    assert not half.exists()


def test_another_plan_is_refused(tmp_path: Path) -> None:
    stopped_at(tmp_path, 3)
    with pytest.raises(JobError, match="counts otherwise"):
        run(tmp_path, network(), separable(), spec(epochs=4))


def test_another_network_is_refused(tmp_path: Path) -> None:
    stopped_at(tmp_path, 3)
    with pytest.raises(JobError, match="another network"):
        run(tmp_path, torch.nn.Linear(toy.WIDTH, toy.CLASSES), separable(), spec())


def big(step: int) -> Checkpoint:
    tensors = {"weight": torch.full((200_000,), float(step))}
    return Checkpoint(State(step=step), tensors, {}, {}, {}, get_generators(CPU))


def test_a_writer_that_is_cut_short_leaves_the_older_one(tmp_path: Path) -> None:
    """A limit on file sizes stands in for the full disk where nothing may be mounted: write() fails in the middle."""
    save(tmp_path, big(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises((OSError, DiskFullError), match=r"File too large|No room left"):
            save(tmp_path, big(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.safetensors"]
    found = load(tmp_path)
    assert found is not None
    assert torch.equal(found.model["weight"], torch.full((200_000,), 1.0))


def test_a_full_disk_ends_with_one_sentence(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("a small disk can be mounted by root on Linux alone")
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing may be mounted here")
    try:
        save(small, big(1))
        save(small, big(2))
        with pytest.raises(DiskFullError, match="No room left on the disk") as caught:
            save(small, big(3))
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.ENOSPC
        assert sorted(path.name for path in small.iterdir()) == [
            "step-000000001.safetensors",
            "step-000000002.safetensors",
        ]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_every_kind_of_tensor_comes_back(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(3, 4),
        "half": torch.randn(5).bfloat16(),
        "last": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "count": torch.tensor(7),
        "bool": torch.tensor([True, False]),
        "none": torch.zeros(0, 3),
    }
    state = State(step=3, best_value=0.1 + 0.2, plan={"total": 9})
    save(tmp_path, Checkpoint(state, tensors, {}, {"0.step": torch.tensor(3.0)}, {}, get_generators(CPU)))
    found = load(tmp_path)
    assert found is not None
    assert found.state == state
    assert same(found.model, tensors)
    assert found.best == {}
    assert torch.equal(found.optimizer["0.step"], torch.tensor(3.0))
