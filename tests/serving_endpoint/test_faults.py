"""Every process of an endpoint killed in turn under load; what was accepted is answered, and nothing is left behind."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from houndsight.backends import process
from houndsight.errors import ModelError, RequestError, SpecError
from houndsight.verbs.endpoints import Deployment
from houndsight.workspace import Workspace

from .conftest import Callers, Deploy, processes

pytestmark = pytest.mark.slow
COUNT = 3


def until(true: Callable[[], bool], timeout: float = 120.0) -> None:
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end
        threading.Event().wait(0.05)


def restored(of: Deployment, count: int, lost: int) -> Callable[[], bool]:
    """Whether all instances are ready, `lost` of them for another time."""

    def look() -> bool:
        instances = of.status.instances
        return sum(each.restarts for each in instances) == lost and all(each.state == "ready" for each in instances)

    return look


def end(of: Deployment, pid: int | None, number: signal.Signals) -> None:
    assert pid is not None
    os.kill(pid, number)


def test_each_process_is_killed_in_turn_under_load(deploy: Deploy, models: dict[str, Path], picture: bytes) -> None:
    of = deploy(models["old"], instances=2)
    with Callers(of.url, picture, count=COUNT) as callers:
        callers.wait_for_more()

        end(of, of.status.instances[0].pid, signal.SIGTERM)  # finishes what it has, and is replaced
        until(restored(of, 2, lost=1))
        callers.wait_for_more()
        assert callers.failures == []

        end(of, of.status.helpers[0][0], signal.SIGKILL)  # the nursery: nobody notices
        callers.wait_for_more()
        assert callers.failures == []

        # Its own requests are lost and no other; a new nursery bears the next.
        end(of, of.status.instances[1].pid, signal.SIGKILL)
        until(restored(of, 2, lost=2))
        callers.wait_for_more()
        assert len(callers.failures) <= COUNT
        assert set(callers.statuses) == {200}

        before, lost, left = len(callers.failures), len(callers.lost), processes(of)
        end(of, of.status.pid, signal.SIGKILL)
        callers.wait_for(lambda now: len(now.failures) > before)
    assert len(callers.lost) == lost  # the instances answered what they had accepted
    assert set(callers.statuses) == {200}
    assert of.state == "Failed"
    assert "supervisor was killed" in of.status.reason
    until(lambda: not [one for one in left if process.alive(*one)])
    with pytest.raises(RequestError, match="has failed"):
        of.update(instances=2)
    of.delete()
    assert Workspace.find().endpoint_names() == []


def test_what_cannot_be_deployed_leaves_nothing(deploy: Deploy, models: dict[str, Path], place: Path) -> None:
    hurt = place.parent / "hurt"
    hurt.mkdir()
    for file in ("model.json", "samples.npz"):
        (hurt / file).write_bytes((models["old"] / file).read_bytes())
    (hurt / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"model\.safetensors is broken"):
        deploy(hurt, name="hurt")
    assert Workspace.find().endpoint_names() == []
    assert not (place / "endpoints" / "hurt").exists()
    with pytest.raises(SpecError, match="can be reached from other machines, and no key was given"):
        deploy(models["old"], host="0.0.0.0")
    with pytest.raises(RequestError, match="no address of this machine"):
        deploy(models["old"], host="not a host")
    with pytest.raises(SpecError, match="instances"):
        deploy(models["old"], instances=0)
