"""An endpoint from deploy to delete, changed under load: no request is lost, and no bad model stays."""

from pathlib import Path

import pytest

import houndsight
from houndsight.backends import process
from houndsight.errors import WorkspaceError

from .conftest import Deploy, processes

pytestmark = pytest.mark.slow


def test_from_deploy_to_delete(
    deploy: Deploy, models: dict[str, Path], picture: bytes, place: Path, tmp_path: Path
) -> None:
    of = deploy(models["old"], name="animals")
    assert of.document() == {"endpoint": "animals", "url": of.url, "instances": 1, "state": "InService"}
    image, broken = tmp_path / "a.jpg", tmp_path / "b.jpg"
    image.write_bytes(picture)
    broken.write_bytes(picture[:200])
    good, bad = houndsight.invoke("animals", [image, broken], top=2)
    assert good["image"] == str(image)
    assert len(good["predictions"]) == 2
    assert good["predictions"] == pytest.approx(houndsight.predict(models["old"], image, top=2)[0]["predictions"])
    assert bad["error"]["kind"] == "ImageError"
    (instance,) = of.describe()["running"]
    assert instance["state"] == "ready"
    assert instance["requests"] == 2
    assert "is ready" in of.logs()
    left = processes(of)
    houndsight.delete_endpoint("animals")
    assert not [one for one in left if process.alive(*one)]
    assert houndsight.endpoints() == []
    with pytest.raises(WorkspaceError):
        houndsight.open_endpoint("animals")
