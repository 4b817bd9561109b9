"""`with houndsight.profile():` around loops as people write them: nothing of theirs is changed, all time is told."""

import copy
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, dataloader

import houndsight
from houndsight.folders import JobFolder
from houndsight.records import timeline
from houndsight.records.profiling import run as runs
from houndsight.records.trace import write_trace
from houndsight.watch.clock import LoopClock
from houndsight.watch.own import Profile
from houndsight.watch.window import summed
from houndsight.workspace import Workspace


@pytest.fixture(autouse=True)
def place(workspace: Workspace) -> Workspace:
    """Profiles keep what they measure of the machine below the workspace."""
    return workspace


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


def loader(count: int = 64, batch: int = 8) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(count, 16), torch.arange(count) % 4), batch_size=batch)


def train(model: nn.Module, batches: Any, pause: float = 0.0) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for inputs, labels in batches:
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        time.sleep(pause)


def patched() -> list[Any]:
    """Everything that the hooks wrap, as it is now."""
    return [
        nn.Module.__call__,
        torch.save,
        torch.autograd.backward,
        torch.autograd.grad,
        dataloader._BaseDataLoaderIter.__next__,
        DataLoader.__iter__,
        *(vars(torch.Tensor).get(name) for name in ("backward", "to", "clone", "copy_", "cpu", "item")),
    ]


def test_everything_is_put_back_also_after_an_error(tmp_path: Path) -> None:
    before = patched()
    profile = Profile(tmp_path)
    with pytest.raises(ZeroDivisionError), profile:
        raise_after(before)
    assert patched() == before
    assert json.loads((tmp_path / "profile.json").read_text())["steps"]["count"] == 8
    assert profile.document["steps"]["count"] == 8


def raise_after(before: list[Any]) -> None:
    """Train, and fail as a user's code does."""
    assert patched() != before
    train(network(), loader())
    raise ZeroDivisionError


def test_the_loop_computes_what_it_would_without(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one = network()
    other = copy.deepcopy(one)
    batches = list(loader())
    train(one, batches)
    with Profile(tmp_path):
        train(other, batches)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_models_can_be_copied_and_saved_meanwhile(tmp_path: Path) -> None:
    model = network()
    with Profile(tmp_path):
        train(model, loader())
        twin = copy.deepcopy(model)
        torch.save(model, io.BytesIO())
        assert torch.equal(next(twin.parameters()), next(model.parameters()))


def test_parts_and_facts(tmp_path: Path) -> None:
    model = network()
    with Profile(tmp_path, window_after=None):
        for _ in range(3):
            train(model, loader(80), pause=0.003)
            model.eval()
            with torch.no_grad():
                for inputs, _ in loader(400, 100):
                    model(inputs)
                    time.sleep(0.002)
            model.train()
            torch.save(torch.zeros(2_000_000), tmp_path / "model.pt")
    run = runs.read(tmp_path)
    totals = run.timeline.totals()
    assert run.timeline.steps == 30
    for part in ("data", "forward", "backward", "optimizer", "checkpoint", "evaluate", "rest"):
        assert totals[part] > 0, part
    assert totals["rest"] >= 30 * 0.003
    whole = sum(seconds for _, _, seconds in run.timeline.phases())
    assert whole == pytest.approx(run.timeline.ended - run.timeline.began, rel=1e-3)
    facts = run.facts
    assert (facts.device, facts.batch_size, facts.workers, facts.own_loop) == ("cpu", 8, 0, True)
    assert (facts.precision, facts.pin_memory, facts.steps) == ("float32", False, 30)
    assert set(facts.cpu) >= {"data", "forward", "backward"}


class Ticks:
    """Records what a clock says."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, float, int]] = []

    def add_span(self, name: str, start: float, seconds: float, step: int) -> None:
        self.spans.append((name, seconds, step))


def test_images_that_are_evaluated_are_no_wait_of_the_training() -> None:
    ticks = Ticks()
    clock = LoopClock(ticks)  # type: ignore[arg-type]  # all that it needs of a writer
    for _ in range(2):
        for part in ("data", "forward", "backward", "optimizer"):
            with clock.part(part):
                pass
        for part in ("data", "evaluate"):
            with clock.part(part):
                time.sleep(0.1)
    clock.close()
    spent: dict[str, float] = {}
    for name, seconds, _ in ticks.spans:
        spent[name] = spent.get(name, 0.0) + seconds
    assert spent["evaluate"] >= 4 * 0.1
    assert spent["data"] < 0.1
    assert clock.steps == 2
    assert all(seconds >= 0 for _, seconds, _ in ticks.spans)


def test_a_second_thread_is_not_watched(tmp_path: Path) -> None:
    from threading import Thread

    with Profile(tmp_path, window_after=None):
        train(network(), loader())
        other = Thread(target=train, args=(network(), loader(640)))
        other.start()
        other.join()
    assert runs.read(tmp_path).timeline.steps == 8


def test_a_window_tells_operators_and_its_own_stall(tmp_path: Path) -> None:
    with Profile(tmp_path, window_after=0.0) as profile:
        train(network(), loader(128))
    run = runs.read(tmp_path)
    assert run.facts.window_steps == 3
    names = {each.name for each in run.facts.operators}
    assert "aten::addmm" in names
    assert run.facts.window_stall > 0
    assert sum(each.seconds for each in run.timeline.marks if each.name == "window") == pytest.approx(
        run.facts.window_stall, rel=0.2
    )
    assert profile.document["operators"][0]["seconds"] >= profile.document["operators"][-1]["seconds"]


def test_own_times_of_operators_take_away_what_they_call() -> None:
    main, gpu = (False, 1), (True, 7)
    found = summed(
        [(main, "outer", 0, 1000), (main, "inner", 100, 300), (main, "inner", 500, 200), (gpu, "kernel", 0, 5000)]
    )
    assert {each.name: (each.calls, each.seconds, each.device_seconds) for each in found} == {
        "kernel": (1, 0.0, pytest.approx(5e-6)),
        "outer": (1, pytest.approx(5e-7), 0.0),
        "inner": (2, pytest.approx(5e-7), 0.0),
    }


def test_in_a_script_that_is_a_job_it_writes_into_the_job(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = JobFolder(tmp_path / "job")
    job.path.mkdir()
    job.spec.write_text('{"kind": "script"}')
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(job.path))
    with houndsight.profile() as profile:
        train(network(), loader(), pause=0.1)
    assert timeline.read(job.records).steps == 8
    assert runs.read(job.records).facts.batch_size == 8
    assert profile.verdict is not None
    assert not job.profile.exists()  # the job writes it when the script has ended
    monkeypatch.delenv("SAGEMAKER_BASE_DIR")
    with houndsight.profile() as alone:
        train(network(), loader())
    assert alone.folder.parent == workspace.path / "profiles"
    assert (alone.folder / "profile.json").is_file()


def test_flops_and_rate_are_known_after_a_second(tmp_path: Path) -> None:
    with Profile(tmp_path, window_after=None) as profile:
        train(network(), loader(), pause=0.15)
    flops = profile.document["flops"]
    forward = 2 * 8 * (16 * 32 + 32 * 4)
    assert flops["per_step"] == forward * 3 - 2 * 8 * 16 * 32  # backward is twice that, but no gradient of the inputs
    assert flops["machine_per_second"] > 1e8


def test_the_trace_opens_in_perfetto(tmp_path: Path) -> None:
    with Profile(tmp_path / "records", interval=0.1):
        train(network(), loader(), pause=0.05)
    count = write_trace(tmp_path / "trace.json", tmp_path / "records")
    document = json.loads((tmp_path / "trace.json").read_text())
    events = document["traceEvents"]
    assert len(events) == count
    phases = {each["ph"] for each in events}
    assert phases == {"M", "X", "C"}
    complete = [each for each in events if each["ph"] == "X"]
    assert {"data", "forward", "backward", "optimizer"} <= {each["name"] for each in complete}
    assert all(each["dur"] >= 0 and each["ts"] >= 0 for each in complete)
    tracks = [each for each in complete if each["tid"] == 1]
    ends = [each["ts"] + each["dur"] for each in tracks]
    # Seconds since the epoch have a grain of 0.24 us, and each start is rounded to 1 us.
    assert all(end <= later["ts"] + 5 for end, later in zip(ends, tracks[1:], strict=False))  # one after the other
    counters = {each["name"] for each in events if each["ph"] == "C"}
    assert {"CPU (%)", "memory (MB)", "disk (MB/s)", "cores in use"} <= counters
    assert all(isinstance(value, float) for each in events if each["ph"] == "C" for value in each["args"].values())
