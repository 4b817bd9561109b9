"""What several tests share: the real images and weights beside the checkout, a workspace, and an end to hanging."""

import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from houndsight.workspace import Workspace

HANGS = 400.0
"""Seconds after which a test that not even pytest-timeout's signal could end (300 s) ends its process, with a stack."""

os.environ.setdefault("HOUNDSIGHT_COLD", "1")  # tests of warm starts take it away
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # whoever imports onnxruntime or OpenVINO first: nothing reports home
modules: dict[str, object] = sys.modules  # type: ignore[assignment]
modules.setdefault("openvino_telemetry", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Whatever a test does, the run goes on."""
    faulthandler.dump_traceback_later(HANGS, exit=True, file=sys.__stderr__ or 2)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say at once what failed: a run that is cut off has no summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        where = getattr(report.longrepr, "reprcrash", None) or str(report.longrepr)[-300:]
        print(f"\nFAILED {report.nodeid} ({report.when}, {report.duration:.1f} s): {where}"[:600], flush=True)


@pytest.fixture(scope="session")
def assets() -> Path:
    """Folder with `data/` and `weights/`; a test that needs it and finds none is skipped with that reason."""
    place = os.environ.get("HOUNDSIGHT_TEST_ASSETS") or Path(__file__).parents[1].parent / "shared"
    folder = Path(place).absolute()
    if not (folder / "data").is_dir() or not (folder / "weights").is_dir():
        pytest.skip(f"no data/ and weights/ in {folder}: set HOUNDSIGHT_TEST_ASSETS to the folder that has them")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace that `$HOUNDSIGHT_HOME` names, with an empty cache of weights beside it."""
    monkeypatch.setenv("HOUNDSIGHT_HOME", str(tmp_path / "runs"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return Workspace.find()
