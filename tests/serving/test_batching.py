"""The queue: nobody waits for a timer, nobody pays for another's image, nothing expired is computed."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from houndsight.errors import HoundsightError, ImageError, JobError
from houndsight.serving.batching import Batcher, ExpiredError, QueueFullError, Work


class Slow:
    """A model that does one thing at a time, when it is let."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.inside = threading.Event()
        self.batches: list[list[int]] = []

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        if data == b"broken":
            raise ImageError("broken")
        if data == b"bug":
            raise KeyError("bug")
        return np.array([int(data)], np.uint8)

    def predict(self, batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        self.batches.append(batch[:, 0].tolist())
        self.inside.set()
        assert self.go.wait(10)
        if 13 in batch:
            raise ValueError("thirteen")
        return batch.astype(np.float64)


class Seen:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def batch(self, images: int, decode: float, forward: float) -> None:
        self.sizes.append(images)

    def waited(self, seconds: float) -> None:
        assert seconds >= 0


Scene = Callable[[Batcher, Slow], Coroutine[Any, Any, None]]


def play(scene: Scene, *, threads: int = 1, batch: int = 8, queue: int = 32) -> None:
    model = Slow()
    batcher = Batcher(model, threads=threads, batch=batch, queue=queue, observer=Seen())
    try:
        asyncio.run(scene(batcher, model))
    finally:
        model.go.set()
        batcher.stop()


def submit(batcher: Batcher, *images: bytes, within: float = 60, gone: bool = False) -> Work:
    return batcher.submit(images, time.monotonic() + within, lambda: gone)


async def busy(batcher: Batcher, model: Slow) -> Work:
    """The one thread is inside the model, so that what comes now has to wait."""
    work = submit(batcher, b"0")
    assert await asyncio.to_thread(model.inside.wait, 10)
    return work


def test_a_lone_caller_waits_for_nobody() -> None:
    async def scene(batcher: Batcher, model: Slow) -> None:
        model.go.set()
        rows = await submit(batcher, b"7").done
        assert rows[0].tolist() == [7.0]  # type: ignore[union-attr]
        assert model.batches == [[7]]

    play(scene)


def test_what_waits_becomes_one_batch() -> None:
    async def scene(batcher: Batcher, model: Slow) -> None:
        first = await busy(batcher, model)
        works = [submit(batcher, b"%d" % number) for number in range(1, 12)]
        model.go.set()
        await asyncio.gather(first.done, *(work.done for work in works))
        assert model.batches == [[0], list(range(1, 9)), [9, 10, 11]]
        assert [work.answers[0].tolist() for work in works] == [[number] for number in range(1, 12)]

    play(scene)


def test_threads_share_what_waits() -> None:
    async def scene(batcher: Batcher, model: Slow) -> None:
        works = [submit(batcher, b"1"), submit(batcher, b"2")]
        while len(model.batches) < 2:
            await asyncio.sleep(0.001)
        works += [submit(batcher, b"%d" % number) for number in range(3, 9)]
        model.go.set()
        await asyncio.gather(*(work.done for work in works))
        assert sorted(len(batch) for batch in model.batches[2:]) in ([3, 3], [1, 2, 3], [1, 1, 1, 3])

    play(scene, threads=2)


def test_one_broken_image_among_sixteen_hurts_nobody() -> None:
    async def scene(batcher: Batcher, model: Slow) -> None:
        first = await busy(batcher, model)
        works = [submit(batcher, b"broken" if number == 5 else b"%d" % (20 + number)) for number in range(16)]
        model.go.set()
        await asyncio.gather(first.done, *(work.done for work in works))
        answers = [work.answers[0] for work in works]
        assert isinstance(answers[5], ImageError)
        assert not [number for number, row in enumerate(answers) if number != 5 and isinstance(row, HoundsightError)]

    play(scene, batch=16)


@pytest.mark.parametrize("bad", [b"bug", b"13"])
def test_what_breaks_the_decoder_or_the_model_hurts_nobody_else(bad: bytes) -> None:
    async def scene(batcher: Batcher, model: Slow) -> None:
        first = await busy(batcher, model)
        works = [submit(batcher, bad), submit(batcher, b"1"), submit(batcher, b"2")]
        model.go.set()
        await asyncio.gather(first.done, *(work.done for work in works))
        assert isinstance(works[0].answers[0], ImageError | JobError)
        assert [work.answers[0].tolist() for work in works[1:]] == [[1.0], [2.0]]

    play(scene)


def test_requests_take_turns_image_by_image() -> None:
    async def scene(batcher: Batcher, model: Slow) -> None:
        first = await busy(batcher, model)
        many = submit(batcher, *(b"%d" % number for number in range(100, 110)))
        one = submit(batcher, b"1")
        model.go.set()
        await asyncio.gather(first.done, many.done, one.done)
        assert model.batches[1] == [100, 1, 101, 102]
        assert [row.tolist() for row in many.answers] == [[number] for number in range(100, 110)]

    play(scene, batch=4)


def test_a_full_queue_says_when_to_come_back() -> None:
    async def scene(batcher: Batcher, model: Slow) -> None:
        first = await busy(batcher, model)
        works = [submit(batcher, b"1", b"2"), submit(batcher, b"3")]
        with pytest.raises(QueueFullError, match="3 images are waiting") as caught:
            submit(batcher, b"4", b"5")
        assert caught.value.retry_after >= 1
        assert batcher.waiting == 3
        works.append(submit(batcher, b"6"))
        model.go.set()
        await asyncio.gather(first.done, *(work.done for work in works))
        assert batcher.waiting == 0

    play(scene, queue=4)


@pytest.mark.parametrize(("within", "gone"), [(-1.0, False), (60.0, True)], ids=["expired", "gone"])
def test_nothing_is_computed_that_nobody_waits_for(within: float, gone: bool) -> None:
    async def scene(batcher: Batcher, model: Slow) -> None:
        first = await busy(batcher, model)
        late, other = submit(batcher, b"1", within=within, gone=gone), submit(batcher, b"2")
        model.go.set()
        await asyncio.gather(first.done, late.done, other.done)
        assert isinstance(late.answers[0], ExpiredError)
        assert model.batches == [[0], [2]]

    play(scene)


def test_how_long_a_batch_takes_can_be_seen() -> None:
    async def scene(batcher: Batcher, model: Slow) -> None:
        assert batcher.longest == 0
        first = await busy(batcher, model)
        assert batcher.longest > 0
        model.go.set()
        await first.done

    play(scene)


def test_stopping_finishes_the_queue() -> None:
    async def scene(batcher: Batcher, model: Slow) -> None:
        first = await busy(batcher, model)
        works = [submit(batcher, b"%d" % number) for number in range(20, 40)]
        model.go.set()
        await asyncio.to_thread(batcher.stop)
        await asyncio.gather(first.done, *(work.done for work in works))
        assert all(not isinstance(work.answers[0], HoundsightError) for work in works)

    play(scene)
