"""An endpoint from deploy to delete, changed under load: no request is lost, and no bad model stays."""

import json
import os
import shutil
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import houndsight
from houndsight.backends import process
from houndsight.errors import JobError, ModelError, RequestError, SpecError, WorkspaceError
from houndsight.serving import capture
from houndsight.verbs.endpoints import Deployment

from .conftest import CLASSES, Callers, Deploy, processes

pytestmark = pytest.mark.slow


def test_from_deploy_to_delete(deploy: Deploy, models: dict[str, Path], picture: bytes, tmp_path: Path) -> None:
    of = deploy(models["old"], name="animals", api_key="a secret", capture=1.0)
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
    assert stat.S_IMODE(of.files.control.stat().st_mode) == stat.S_IMODE(of.files.key.stat().st_mode) == 0o600
    assert "a secret" not in of.files.spec.read_text() + of.logs()
    ask_by_boto3(of, picture)
    capture_on_a_full_disk(of, picture)
    with pytest.raises(WorkspaceError, match="exists already"):
        deploy(models["old"], name="animals")
    with pytest.raises(RequestError, match=f"Port {of.spec.port} of 127.0.0.1 is taken"):
        deploy(models["old"], name="others", port=of.spec.port)
    left = processes(of)
    houndsight.delete_endpoint("animals")
    assert not [one for one in left if process.alive(*one)]
    assert houndsight.endpoints() == []


def ask_by_boto3(of: Deployment, picture: bytes) -> None:
    """Amazon's own client, with the endpoint's key as its access key id."""
    import boto3

    def client(key: str) -> Any:
        return boto3.client(
            "sagemaker-runtime",
            endpoint_url=of.url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key="any",
        )

    runtime = client("a secret")
    asked = {"EndpointName": "animals", "Body": picture, "ContentType": "image/jpeg"}
    answer = runtime.invoke_endpoint(**asked, TargetVariant="AllTraffic")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert json.loads(answer["Body"].read())["predictions"][0]["class"] in CLASSES["old"]
    with pytest.raises(runtime.exceptions.ModelError) as refused:
        runtime.invoke_endpoint(**{**asked, "Body": picture[:200]})
    assert refused.value.response["OriginalStatusCode"] == 400
    with pytest.raises(runtime.exceptions.ValidationError, match="Endpoint others of account"):
        runtime.invoke_endpoint(**{**asked, "EndpointName": "others"})
    with pytest.raises(Exception, match="AccessDenied"):
        client("a guess").invoke_endpoint(**asked)


def capture_on_a_full_disk(of: Deployment, picture: bytes) -> None:
    """Requests so far were kept; none is hurt when nothing can be written any more."""
    of.predict(picture)
    until = time.monotonic() + 20
    while not (kept := list(capture.read(of.files.capture))) and time.monotonic() < until:
        threading.Event().wait(0.05)
    assert (of.files.capture / kept[0]["file"]).read_bytes() == picture
    (lines,) = of.files.capture.glob("*.jsonl")
    lines.unlink()
    lines.symlink_to("/dev/full")
    for _ in range(10):
        assert of.predict(picture)
    assert "Captured requests cannot be written (No space left on device)" in of.logs()


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
        assert [each.name for each in of.spec.variants] == ["challenger"]
        assert len(list(of.files.models.iterdir())) == 1
        assert callers.failures == []

        left = processes(of)
        of.delete()
        assert not [one for one in left if process.alive(*one)]
        callers.wait_for(lambda now: bool(now.failures))
    assert callers.lost == []
    assert set(callers.statuses) == {200}
    assert not of.files.path.exists()


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
