"""Order, augmentation and threads of the batches: the same bits however they are made."""

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from houndsight.data.augment import Augment
from houndsight.data.cache import DecodedImages, decode_all
from houndsight.data.folder import scan
from houndsight.data.images import resized
from houndsight.data.loader import Batch, ImageBatches, order, steps
from houndsight.errors import DataError
from houndsight.spec import Index, Preprocess
from tests.data.pictures import photos

PREPROCESS = Preprocess(image_size=24, resize=32)
COUNTS = {"cat": 20, "dog": 21}


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, DecodedImages]:
    root = tmp_path_factory.mktemp("photos")
    photos(root, COUNTS, "train/")
    photos(root, {"cat": 3, "dog": 4}, "valid/")
    return decode_all(scan(root), PREPROCESS, tmp_path_factory.mktemp("cache"))


def batches(decoded: tuple[Index, DecodedImages], **options: Any) -> ImageBatches:
    settings: dict[str, Any] = {"batch_size": 8, "seed": 5, "augment": "trivial", **options}
    return ImageBatches(decoded[0], decoded[1], PREPROCESS, **settings)


def bits(made: Iterator[Batch]) -> list[tuple[bytes, list[int], list[int]]]:
    return [(each.images.numpy().tobytes(), each.labels.tolist(), each.ids.tolist()) for each in made]


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_shapes_strides_and_labels(decoded: tuple[Index, DecodedImages]) -> None:
    index = decoded[0]
    for batch in batches(decoded).train(0):
        assert batch.images.shape[1:] == (3, 24, 24)
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.labels.dtype == batch.ids.dtype == torch.int64
        assert batch.labels.tolist() == [index.splits["train"].labels[number] for number in batch.ids.tolist()]


@pytest.mark.parametrize("augment", ["none", "crop-flip", "trivial"])
@pytest.mark.parametrize("start", [0, 1, 4, 5, 9])
def test_neither_workers_nor_the_start_change_a_bit(
    decoded: tuple[Index, DecodedImages], augment: Augment, start: int
) -> None:
    whole = bits(batches(decoded, augment=augment, workers=0).train(3))
    for workers in (0, 1, 3, 7):
        assert bits(batches(decoded, augment=augment, workers=workers).train(3, start)) == whole[start:]


def test_epochs_and_seeds_differ(decoded: tuple[Index, DecodedImages]) -> None:
    made = [bits(batches(decoded, seed=seed).train(epoch)) for seed, epoch in ((5, 0), (5, 1), (6, 0), (2**62, 0))]
    assert len({str(each) for each in made}) == 4


def test_an_epoch_holds_every_image_once_but_a_lonely_last_one(decoded: tuple[Index, DecodedImages]) -> None:
    for batch_size, expected in ((8, 40), (40, 40), (41, 41), (7, 41), (1, 41), (100, 41)):
        loader = batches(decoded, batch_size=batch_size, augment="none")
        ids = [number for batch in loader.train(0) for number in batch.ids.tolist()]
        assert len(ids) == len(set(ids)) == expected
        assert loader.steps_per_epoch == len(bits(loader.train(1)))
    lonely = batches(decoded, batch_size=8, augment="none")
    waiting = [
        set(range(41)) - {number for batch in lonely.train(epoch) for number in batch.ids.tolist()}
        for epoch in range(5)
    ]
    assert len({min(each) for each in waiting}) > 1


def test_evaluation_is_in_file_order_and_the_exact_centre(decoded: tuple[Index, DecodedImages]) -> None:
    index, images = decoded
    made = list(batches(decoded, batch_size=3).evaluate("valid"))
    assert [number for batch in made for number in batch.ids.tolist()] == list(range(7))
    assert [number for batch in made for number in batch.labels.tolist()] == list(index.splits["valid"].labels)
    seen = np.concatenate([batch.images.permute(0, 2, 3, 1).numpy() for batch in made])
    assert (seen == images.pixels[images.rows("valid")][:, 4:28, 4:28]).all()


@pytest.mark.parametrize("augment", ["none", "crop-flip", "trivial"])
def test_so_many_first_epochs_are_smaller_and_else_the_same(
    decoded: tuple[Index, DecodedImages], augment: Augment
) -> None:
    plain = batches(decoded, augment=augment)
    small = batches(decoded, augment=augment, first=(16, 2))
    assert small.steps_per_epoch == plain.steps_per_epoch
    for epoch in (0, 1):
        for one, other in zip(small.train(epoch), plain.train(epoch), strict=True):
            assert one.images.shape[1:] == (3, 16, 16)
            assert one.images.is_contiguous(memory_format=torch.channels_last)
            assert one.ids.tolist() == other.ids.tolist()
            if augment == "none":
                whole = other.images.permute(0, 2, 3, 1).numpy()
                expected = np.stack([resized(each, 16, 16, PREPROCESS.interpolation) for each in whole])
                assert (one.images.permute(0, 2, 3, 1).numpy() == expected).all()
    assert bits(small.train(2)) == bits(plain.train(2))
    assert bits(small.evaluate("valid")) == bits(plain.evaluate("valid"))
    assert bits(small.train(1, 3)) == bits(small.train(1))[3:]
    assert bits(batches(decoded, augment=augment, first=(16, 2), workers=0).train(0)) == bits(small.train(0))


def test_a_view_is_its_epoch_in_the_order_of_the_files(decoded: tuple[Index, DecodedImages]) -> None:
    loader = batches(decoded, batch_size=1)
    view = list(batches(decoded, batch_size=8, workers=0).view(3))
    assert [number for batch in view for number in batch.ids.tolist()] == list(range(41))
    seen = torch.cat([batch.images for batch in view])
    for batch in loader.train(3):
        assert torch.equal(batch.images[0], seen[int(batch.ids[0])])
    assert bits(loader.view(3)) != bits(loader.view(4))


def test_threads_end_when_the_iterator_is_closed_let_go_or_left_by_an_error(
    decoded: tuple[Index, DecodedImages],
) -> None:
    loader = batches(decoded, batch_size=2, workers=3)
    closed = loader.train(0)
    next(closed)
    assert ours()
    closed.close()  # type: ignore[attr-defined]
    assert not ours()
    let_go = loader.train(0)
    next(let_go)
    del let_go
    gc.collect()
    assert not ours()
    with pytest.raises(ZeroDivisionError):
        _fail_inside(loader)
    gc.collect()
    assert not ours()
    list(loader.evaluate("valid"))
    assert not ours()


def _fail_inside(loader: ImageBatches) -> None:
    for batch in loader.train(0):
        _ = len(batch.ids) / 0


def test_an_image_that_goes_bad_meanwhile_stops_the_epoch_with_its_name(tmp_path: Path) -> None:
    photos(tmp_path / "data", COUNTS)
    index, images = decode_all(scan(tmp_path / "data"), PREPROCESS, tmp_path / "cache", max_bytes=0)
    (tmp_path / "data/cat/3.jpg").write_bytes(b"")
    loader = ImageBatches(index, images, PREPROCESS, batch_size=4, seed=0)
    with pytest.raises(DataError, match=r"cat/3\.jpg could be read before and now cannot: 0 bytes"):
        [list(loader.evaluate(split)) for split in index.splits]
    assert not ours()


@given(st.integers(1, 500), st.integers(1, 60), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_orders_are_permutations_and_steps_never_leave_one_image_alone(
    count: int, batch_size: int, seed: int, epoch: int
) -> None:
    made = order(count, seed, epoch)
    assert sorted(made.tolist()) == list(range(count))
    parts = [made[at * batch_size :][:batch_size] for at in range(steps(count, batch_size))]
    assert parts
    assert sum(map(len, parts)) >= count - 1
    if batch_size > 1 and count > 1:
        assert all(len(part) > 1 for part in parts)
