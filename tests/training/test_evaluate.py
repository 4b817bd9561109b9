"""Evaluation: the right rows, honest files, pictures of the worst mistakes, nothing from outputs that are broken."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from houndsight import metrics
from houndsight.backends.base import Stopped
from houndsight.data.loader import Batch
from houndsight.errors import DataError, JobError
from houndsight.results import Evaluation
from houndsight.spec import Index, Split, SplitName
from houndsight.training.evaluate import MISTAKES, evaluate, logits, outputs
from tests.training import toy
from tests.training.toy import network, separable

CLASSES = ("beagle", "Borzoi", "collie dog", "vizsla")


class Shuffled(toy.Tensors):
    """Hands out the batches of a split in reverse."""

    def evaluate(self, split: SplitName) -> Iterator[Batch]:
        yield from reversed(list(super().evaluate(split)))


def pictures(root: Path, count: int) -> Index:
    paths = tuple(f"test/{CLASSES[each % 4]}/{each}.png" for each in range(count))
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 30), (10, 200, 30)).save(root / path)
    labels = tuple(each % 4 for each in range(count))
    split = Split(paths=paths, labels=labels, sizes=(1,) * count)
    return Index(root=str(root), classes=CLASSES, splits={"test": split}, fingerprint="0" * 64)


def scores(count: int, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    """Row i is right with logit 3, but the first `wrong` rows call the next class, the later the surer."""
    labels = np.arange(count) % 4
    rows = np.zeros((count, 4), dtype=np.float32)
    rows[np.arange(count), labels] = 3
    for row in range(wrong):
        rows[row] = 0
        rows[row, (labels[row] + 1) % 4] = 1 + row
    return rows, labels


def test_rows_come_in_the_order_of_the_split() -> None:
    net = network()
    batches = Shuffled(separable().splits)
    got, labels = outputs(net, batches, "test")
    images, truth = batches.splits["test"]
    with torch.no_grad():
        expected = net.eval()(images).numpy()
    assert got == pytest.approx(expected, abs=1e-6)
    assert got.dtype == np.float32
    assert labels.tolist() == truth.tolist()
    assert (logits(net, batches, "test") == got).all()


def test_evaluation_mode_and_no_gradient() -> None:
    net = network().train()
    before = toy.weights(net)
    outputs(net, separable(), "valid")
    assert toy.same(before, toy.weights(net))  # batch norm has not seen the validation images
    assert not net.training


def test_stop_and_nothing_to_evaluate() -> None:
    with pytest.raises(Stopped):
        outputs(network(), separable(), "test", stop=lambda: True)
    empty = toy.Tensors({"train": toy.blobs(), "valid": (torch.zeros(0, toy.WIDTH), torch.zeros(0, dtype=torch.long))})
    empty.evaluate = lambda split: iter(())  # type: ignore[method-assign]
    with pytest.raises(DataError, match="no image in the valid split"):
        outputs(network(), empty, "valid")


def test_outputs_that_are_not_finite_are_refused() -> None:
    batches = separable()
    batches.splits["test"][0][5, 0] = float("nan")
    with pytest.raises(JobError, match="outputs for 1 of 80 images of the test split are not finite"):
        outputs(network(), batches, "test")


def test_evaluation_is_written_whole(tmp_path: Path) -> None:
    index = pictures(tmp_path / "data", 40)
    rows, labels = scores(40, wrong=5)
    got = evaluate(index, "test", rows, labels, 1.5, tmp_path / "evaluation")
    assert Evaluation.read(tmp_path / "evaluation" / "test.json") == got
    assert got.metrics == metrics.measures(rows, labels, 1.5)
    assert got.metrics["top1"].value == 35 / 40
    assert [each.name for each in got.per_class] == list(CLASSES)
    assert sum(map(sum, got.confusion)) == 40
    with np.load(tmp_path / "evaluation" / "test.npz", allow_pickle=False) as saved:
        assert (saved["logits"] == rows).all()
        assert (saved["labels"] == labels).all()
        assert float(saved["temperature"]) == 1.5
    assert [each.path for each in got.mistakes] == [index.splits["test"].paths[row] for row in (4, 3, 2, 1, 0)]
    worst = got.mistakes[0]
    assert (worst.label, worst.predicted) == (CLASSES[0], CLASSES[1])
    assert worst.probability == pytest.approx(metrics.softmax(rows[4:5], 1.5).max())
    with Image.open(tmp_path / "evaluation" / worst.thumbnail) as picture:
        assert picture.format == "JPEG"
        assert max(picture.size) <= 160


def test_only_the_worst_mistakes_and_none_of_an_earlier_run(tmp_path: Path) -> None:
    index = pictures(tmp_path / "data", 60)
    got = evaluate(index, "test", *scores(60, wrong=50), 1.0, tmp_path / "evaluation")
    assert len(got.mistakes) == MISTAKES == len(list((tmp_path / "evaluation").glob("*.jpg")))
    evaluate(index, "test", *scores(60, wrong=1), 1.0, tmp_path / "evaluation")
    assert sorted(path.name for path in (tmp_path / "evaluation").iterdir()) == [
        "test-mistake-00.jpg",
        "test.json",
        "test.npz",
    ]


def test_a_picture_that_went_away_costs_no_results(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = pictures(tmp_path / "data", 12)
    (tmp_path / "data" / index.splits["test"].paths[1]).unlink()
    with caplog.at_level(logging.WARNING):
        got = evaluate(index, "test", *scores(12, wrong=2), 1.0, tmp_path / "evaluation")
    assert [bool(each.thumbnail) for each in got.mistakes] == [False, True]
    assert index.splits["test"].paths[1] in caplog.text


def test_rows_of_another_split_are_our_own_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rows of logits"):
        evaluate(pictures(tmp_path, 12), "test", *scores(11, wrong=0), 1.0, tmp_path / "evaluation")
