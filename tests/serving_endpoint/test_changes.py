"""An endpoint from deploy to delete, changed under load: no request is lost, and no bad model stays."""

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

import houndsight
from houndsight.backends import process
from houndsight.errors import JobError, ModelError, RequestError, SpecError, WorkspaceError

from .conftest import CLASSES, Callers, Deploy, processes

pytestmark = pytest.mark.slow


def test_from_deploy_to_delete(deploy: Deploy, models: dict[str, Path], picture: bytes, tmp_path: Path) -> None:
    of = deploy(models["old"], name="animals")
    assert of.document() == {"endpoint": "animals", "url": of.url, "instances": 1, "state": "InService"}
    image, broken = tmp_path / "a.jpg", tmp_path / "b.jpg"
    image.write_bytes(picture)
    broken.write_bytes(picture[:200])
    good, bad = houndsight.invoke("animals", [image, broken], top=2)
    assert good["image"] == str(image)
    (expected,) = houndsight.predict(models["old"], image, top=2)
    for found, wanted in zip(good["predictions"], expected["predictions"], strict=True):
        assert found["class"] == wanted["class"]
        assert found["probability"] == pytest.approx(wanted["probability"], abs=0.02)
    assert bad["error"]["kind"] == "ImageError"
    (instance,) = of.describe()["running"]
    assert instance["state"] == "ready"
    assert "is ready" in of.logs()
    with pytest.raises(WorkspaceError, match="exists already"):
        deploy(models["old"], name="animals")
    with pytest.raises(RequestError, match=f"Port {of.spec.port} of 127.0.0.1 is taken"):
        deploy(models["old"], name="others", port=of.spec.port)
    left = processes(of)
    houndsight.delete_endpoint("animals")
    assert not [one for one in left if process.alive(*one)]
    assert houndsight.endpoints() == []


def test_changes_under_load_lose_no_request(deploy: Deploy, models: dict[str, Path], picture: bytes) -> None:
    of = deploy(models["old"], instances=2)
    first = processes(of)[1:]
    with Callers(of.url, picture) as callers:
        callers.wait_for_more()
        assert set(callers.classes) <= set(CLASSES["old"])

        of.update(models["new"], canary=0.25, bake=1.0)
        callers.wait_for_more()  # what was under way
        callers.classes.clear()
        callers.wait_for_more()
        assert set(callers.classes) <= set(CLASSES["new"])
        assert not [one for one in first if process.alive(*one)]

        of.update(instances=3)
        of.update(instances=1)
        callers.wait_for_more()

        of.update(models["old"], variants={"AllTraffic": 0.8, "challenger": 0.2}, bake=0)
        callers.wait_for_more()
        callers.variants.clear()
        callers.wait_for_more(200)
        share = callers.variants["challenger"] / sum(callers.variants.values())
        assert 0.15 < share < 0.25
        (mine,) = {each["class"] for each in of.predict(picture, variant="challenger")[:1]}
        assert mine in CLASSES["old"]
        with pytest.raises(RequestError, match="no variant 'nobody'"):
            of.predict(picture, variant="nobody")

        of.update(variants={"challenger": 1.0})
        callers.wait_for_more()
        callers.classes.clear()
        callers.wait_for_more()
        assert set(callers.classes) <= set(CLASSES["old"])
    assert callers.failures == []
    assert set(callers.statuses) == {200}
    assert [each.name for each in of.spec.variants] == ["challenger"]
    assert len(list(of.files.models.iterdir())) == 1


def test_a_model_that_cannot_serve_or_loses_an_instance_is_taken_back(
    deploy: Deploy, models: dict[str, Path], picture: bytes, tmp_path: Path
) -> None:
    of = deploy(models["old"])
    broken = tmp_path / "broken"
    shutil.copytree(models["new"], broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with Callers(of.url, picture, count=2) as callers:
        callers.wait_for_more()
        with pytest.raises(ModelError, match=r"model\.safetensors is broken"):
            of.update(broken)
        assert of.state == "InService"
        assert "taken back" in of.status.reason

        notes: list[str] = []
        moved = threading.Event()

        def note(text: str) -> None:
            notes.append(text)
            if "All requests go to the new model" in text:
                moved.set()

        def kill() -> None:
            assert moved.wait(60)
            callers.wait_for(lambda now: any(name in CLASSES["new"] for name in now.classes))
            newest = max(of.status.instances, key=lambda each: each.slot)
            assert newest.pid is not None
            os.kill(newest.pid, signal.SIGKILL)

        killing = threading.Thread(target=kill)
        killing.start()
        with pytest.raises(JobError, match="taken back: an instance was lost"):
            of.update(models["new"], bake=60, tell=note)
        killing.join()
        callers.wait_for_more()
        callers.classes.clear()
        callers.wait_for_more()
        assert set(callers.classes) <= set(CLASSES["old"])
    assert len(callers.failures) <= 2  # the killed process's own: at most one a caller
    assert of.state == "InService"
    assert len(list(of.files.models.iterdir())) == 1
    with pytest.raises(SpecError, match="exactly one variant that is new"):
        of.update(models["new"], variants={"a": 0.5, "b": 0.5})
    with pytest.raises(SpecError, match="no variant 'b'"):
        of.update(variants={"b": 1.0})
