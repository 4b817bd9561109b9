"""A slot stays filled: crashed, hung and stubborn instances, and those that cannot serve; with real processes."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from houndsight.backends import process
from houndsight.errors import JobError, ModelError
from houndsight.serving import group as groups
from houndsight.serving import rollout
from houndsight.serving.child import Child
from houndsight.serving.endpoint import Variant
from houndsight.serving.group import Group

LIVES = (sys.executable, "-S", "-P", str(Path(__file__).with_name("lives.py")))
VARIANT = Variant(model="m", revision="r")


def group(*lives: str, changed: Callable[[], None] = lambda: None) -> Group:
    """A group whose first instances live as `lives` say, one after the other, and later ones as the last of them."""
    left = list(lives)

    async def start(_group: Group, _number: int) -> Child:
        life = left.pop(0) if len(left) > 1 else left[0]
        return await Child.start([*LIVES, *life.split()], [], {})

    made = Group(VARIANT, start, changed, lambda: len(made.slots))
    return made


def run(scene: Callable[[], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        async with asyncio.timeout(30):
            await scene()

    asyncio.run(all_of_it())


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def test_a_killed_instance_is_replaced_at_once() -> None:
    async def scene() -> None:
        of = group("sound")
        await of.grow(2)
        first = of.slots[0].child
        assert first is not None
        first.kill()
        await until(lambda: of.slots[0].restarts == 1 and of.slots[0].state == "ready")
        assert of.slots[0].reason == "it was killed by SIGKILL"
        assert of.slots[0].child is not first
        assert of.slots[1].restarts == 0
        await of.shrink(0, grace=5)

    run(scene)


def test_crashes_in_a_row_are_answered_with_growing_patience(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        of = group("sound", "crash 0", "crash 0", "crash 0", "sound")
        await of.grow(1)
        assert of.slots[0].child is not None
        of.slots[0].child.kill()
        await until(lambda: of.slots[0].restarts == 4 and of.slots[0].state == "ready")
        await of.shrink(0, grace=5)

    run(scene)
    delays = [record.getMessage().rpartition("in ")[2] for record in caplog.records]
    assert delays == ["0.1 s.", "0.2 s.", "0.4 s.", "0.8 s."]


def test_an_instance_that_falls_silent_is_killed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(groups, "LOOK_SECONDS", 0.1)

    async def scene() -> None:
        of = group("hang", "sound")
        await of.grow(1)
        assert of.slots[0].child is not None
        hung = of.slots[0].child.pid
        await until(lambda: of.slots[0].restarts == 1 and of.slots[0].state == "ready")
        assert "it hung (no sign of life" in of.slots[0].reason
        assert not process.alive(hung, None)
        await of.shrink(0, grace=5)

    run(scene)


def test_an_instance_that_does_not_hear_is_killed_after_its_grace() -> None:
    async def scene() -> None:
        of = group("stubborn")
        await of.grow(1)
        assert of.slots[0].child is not None
        pid = of.slots[0].child.pid
        await of.shrink(0, grace=0.2)
        assert of.slots == []
        assert not process.alive(pid, None)

    run(scene)


def test_a_model_that_cannot_be_served_is_tried_once_and_leaves_nothing() -> None:
    async def scene() -> None:
        of = group("refuse")
        with pytest.raises(ModelError, match="The weights are damaged"):
            await of.grow(3)
        assert of.slots == []

    run(scene)


def test_an_instance_that_ends_without_a_word_is_an_error_with_its_exit_code() -> None:
    async def scene() -> None:
        of = group("mute")
        with pytest.raises(JobError, match="before it was ready: it exited with code 3"):
            await of.grow(2)
        assert of.slots == []

    run(scene)


def test_growing_that_fails_leaves_what_was_there() -> None:
    async def scene() -> None:
        of = group("sound", "refuse")
        await of.grow(1)
        with pytest.raises(ModelError):
            await of.grow(3)
        assert [slot.state for slot in of.slots] == ["ready"]
        await of.shrink(0, grace=5)

    run(scene)


def test_tallies_count_those_that_are_gone() -> None:
    async def scene() -> None:
        of = group("sound")
        await of.grow(1)
        await until(lambda: of.tallies()[0] >= 3)
        before = of.tallies()[0]
        assert of.slots[0].child is not None
        of.slots[0].child.kill()
        await until(lambda: of.slots[0].restarts == 1 and of.slots[0].state == "ready")
        requests, errors, lost = of.tallies()
        assert requests >= before
        assert (errors, lost) == (0, 1)
        await of.shrink(0, grace=5)

    run(scene)


def test_a_watch_ends_at_once_when_instances_answer_with_errors_or_are_lost() -> None:
    async def scene() -> None:
        failing, dying = group("failing"), group("crash 0.3", "sound")
        await failing.grow(1)
        await dying.grow(1)
        with pytest.raises(JobError, match=r"answered \d+ of \d+ requests with 5xx"):
            await rollout.watch(failing, 60, lambda _: None)
        with pytest.raises(JobError, match=r"an instance was lost \(it exited with code 9\)"):
            await rollout.watch(dying, 60, lambda _: None)
        await failing.shrink(0, grace=5)
        await dying.shrink(0, grace=5)

    run(scene)


def test_a_watch_without_trouble_says_what_it_saw() -> None:
    async def scene() -> None:
        of, said = group("sound"), list[str]()
        await of.grow(1)
        await rollout.watch(of, 0.3, said.append)
        assert said[0].endswith("0 errors.")
        await of.shrink(0, grace=5)

    run(scene)
