"""What several tests share: the real images and weights beside the checkout, and a workspace of their own."""

import os
from pathlib import Path

import pytest

from houndsight.workspace import Workspace

os.environ.setdefault("HOUNDSIGHT_COLD", "1")  # tests of warm starts take it away


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
