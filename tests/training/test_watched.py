"""The debugger inside the loop: it changes no bit of the training, and knows what only the loop can know."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from houndsight.errors import NonFiniteLossError
from houndsight.records.arrays import confusion, read_arrays
from houndsight.records.facts import read_facts
from houndsight.records.reader import Records
from houndsight.records.rules.engine import Engine
from houndsight.records.tensors import STATISTICS, TensorRecords
from houndsight.records.writer import RecordWriter
from houndsight.training.loop import Fitted, fit
from houndsight.watch.debugger import Debugger
from houndsight.watch.flight import read_flight

from .toy import CLASSES, network, run, same, separable, spec, weights


def watched(folder: Path, net: nn.Module, batches: Any, settings: Any, stop_at: int = 1 << 30) -> Fitted:
    done = 0

    def progress(_stage: str, now: int, _total: int) -> None:
        nonlocal done
        done = now

    with RecordWriter(folder / "records") as records:
        debugger = Debugger(
            folder / "records",
            rules=lambda facts: Engine(facts, statistics=STATISTICS, strict=True),
            checkpoints=folder / "checkpoints",
            strict=True,
        )
        try:
            return fit(
                net, batches, settings, checkpoints=folder / "checkpoints", records=records,
                stop=lambda: done >= stop_at, progress=progress, debugger=debugger,
            )  # fmt: skip
        finally:
            debugger.close()


def test_not_a_bit_of_the_training_changes(tmp_path: Path) -> None:
    plain, seen, resumed = network(), network(), network()
    run(tmp_path / "plain", plain, separable(), spec())
    watched(tmp_path / "seen", seen, separable(), spec())
    assert same(weights(plain), weights(seen))
    assert watched(tmp_path / "resumed", resumed, separable(), spec(), stop_at=13).stopped
    watched(tmp_path / "resumed", resumed, separable(), spec())
    assert same(weights(plain), weights(resumed))
    for name in ("loss", "lr"):
        before, after = (Records(tmp_path / each / "records").curve(name)[1] for each in ("plain", "resumed"))
        assert list(before) == list(after)
    assert TensorRecords(tmp_path / "resumed" / "records").steps().tolist()[:5] == [0, 1, 2, 3, 4]


def test_what_the_loop_tells(tmp_path: Path) -> None:
    watched(tmp_path, network(), separable(), spec(epochs=4))
    folder = tmp_path / "records"
    facts = read_facts(folder)
    assert (facts["batch_size"], facts["steps_per_epoch"], facts["total_steps"]) == (8, 10, 40)
    assert facts["probe_samples"] == 16
    step, table = read_arrays(folder, "samples")[0]
    assert step == 9
    assert sorted(table[:, 0].tolist()) == list(range(80))  # every training image once
    assert min(table[:, 1].tolist()) >= 0
    cells = read_arrays(folder, "confusion", "valid")
    assert [each for each, _ in cells] == [9, 19, 29, 39]
    counts = confusion(cells[-1][1], CLASSES)
    assert counts.sum() == 80
    accuracy = Records(folder).curve("accuracy", "valid")[1][-1]
    assert np.trace(counts) / 80 == pytest.approx(accuracy)
    assert len(Records(folder).curve("accuracy", "probe")[0]) == 4


def test_a_loss_that_is_not_finite_is_written_down(tmp_path: Path) -> None:
    batches = separable()
    batches.splits["train"][0][5, 0] = float("nan")
    with pytest.raises(NonFiniteLossError) as error:
        watched(tmp_path, network(), batches, spec(checkpoint_seconds=0))
    (place,) = sorted((tmp_path / "records" / "flight").iterdir())
    assert f"step {place.name} " in str(error.value)
    found = read_flight(place)
    assert [each["step"] for each in found["steps"]] == list(range(int(place.name) + 1))
    assert 5 in found["steps"][-1]["ids"]
    assert found["steps"][-1]["loss"] == "nan"
    assert found["findings"][0]["rule"] == "nonfinite_loss"
    assert any(name.startswith("weight/") for name in found["suspects"])
    assert [each.name for each in place.glob("step-*")] == [f"step-{int(place.name):09d}.safetensors"]
    import safetensors.torch

    batch = safetensors.torch.load_file(place / "batch.safetensors")
    assert torch.isnan(batch["images"]).any()
    assert batch["ids"].tolist() == found["steps"][-1]["ids"]
