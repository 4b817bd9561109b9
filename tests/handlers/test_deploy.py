"""Endpoints whose models are scripts, as a user has them: deployed, broken, updated, killed, deleted."""

import http.client
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from houndsight.backends import packages
from houndsight.errors import DependencyError, JobError
from houndsight.verbs import endpoints
from houndsight.verbs.endpoints import Deployment
from houndsight.verbs.handlers import Script
from houndsight.workspace import Workspace

from .scripts import picture
from .test_staging import archive

pytestmark = pytest.mark.slow

SAYS = "def model_fn(d):\n    return '{}'\n\ndef transform_fn(model, data, content_type, accept):\n    return model\n"
BROKEN = "def model_fn(d):\n    raise KeyError('weights')\n"


@pytest.fixture
def made(workspace: Workspace) -> Iterator[list[Deployment]]:
    """Endpoints that are gone at the end."""
    found: list[Deployment] = []
    yield found
    for each in found:
        if each.files.path.exists():
            each.delete()


def ask(deployment: Deployment) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(deployment.url).netloc, timeout=30)
    try:
        connection.request("POST", "/invocations", b"{}", {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_life_of_scripts(made: list[Deployment], workspace: Workspace, tmp_path: Path) -> None:
    first = archive(tmp_path / "first.tar.gz", {"code/inference.py": SAYS.format("first")})
    second = archive(tmp_path / "second.tar.gz", {"code/inference.py": SAYS.format("second")})
    broken = archive(tmp_path / "broken.tar.gz", {"code/inference.py": BROKEN})
    trusted = Script(trust_code=True)
    notes: list[str] = []
    deployment = endpoints.deploy(broken, name="pets", script=trusted, tell=notes.append)
    made.append(deployment)
    assert deployment.state == "InService"  # as on SageMaker, where /ping answers all the same
    assert any("KeyError: 'weights' (inference.py, line 2, in model_fn)" in note for note in notes)
    (variant,) = deployment.describe()["variants"]
    assert variant["runtime"] == "handlers"
    assert variant["model"] == str(broken)
    assert "KeyError" in variant["problem"]
    assert ask(deployment)[0] == 500

    deployment.update(first, script=trusted, bake=0.0)
    assert ask(deployment) == (200, "first")
    image = tmp_path / "image.png"
    image.write_bytes(picture())
    assert endpoints.invoke("pets", image) == [{"image": str(image), "predictions": [], "answer": "first"}]
    with pytest.raises(JobError, match="a script answers there"):
        deployment.predict(image)
    with pytest.raises(JobError, match=r"taken back.*KeyError"):
        deployment.update(broken, script=trusted, bake=0.0)
    assert ask(deployment) == (200, "first")

    (instance,) = deployment.describe()["running"]
    worker = psutil.Process(instance["pid"]).children()[0]
    os.kill(instance["pid"], signal.SIGKILL)
    psutil.wait_procs([worker], timeout=10)
    assert not worker.is_running()
    until = time.monotonic() + 60
    while (
        deployment.describe()["running"][0]["state"] != "ready" or deployment.describe()["running"][0]["restarts"] < 1
    ):
        assert time.monotonic() < until
    assert ask(deployment) == (200, "first")

    deployment.update(second, script=trusted, bake=0.0)
    assert ask(deployment) == (200, "second")
    left = psutil.Process(deployment.describe()["running"][0]["pid"]).children()
    deployment.delete()
    assert not [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert not list((workspace.cache / "handlers").iterdir())


def wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"VERSION = '{version}'\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


def test_packages_that_a_script_asks_for(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    wheel(code, "tiny_package_of_a_test", "1.5")
    file = code / "requirements.txt"
    file.write_text("--no-index\n--find-links .\ntiny-package-of-a-test>=1\nnumpy\n")
    python = packages.interpreter(file, tmp_path / "cache")
    told = "import sys, numpy, houndsight, tiny_package_of_a_test as t; print(t.VERSION, numpy.__file__)"
    done = subprocess.run([str(python), "-P", "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "1.5"
    import numpy as np

    assert done.stdout.split()[1] == np.__file__  # what is here is not installed again
    stamp = python.stat().st_mtime_ns
    assert packages.interpreter(file, tmp_path / "cache") == python
    assert python.stat().st_mtime_ns == stamp
    file.write_text("--no-index\nno-such-package-at-all\n")
    with pytest.raises(DependencyError, match="No matching distribution found for no-such-package-at-all"):
        packages.interpreter(file, tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "packages").iterdir())) == 1
