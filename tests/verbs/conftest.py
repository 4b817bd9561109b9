"""A small trained job that the tests of verbs and commands look at: three colours, twenty pictures each."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import houndsight
from houndsight.verbs.job import Job

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}
SETTINGS: dict[str, Any] = {
    "recipe": "plain",
    "backbone": "shufflenet_v2_x0_5",
    "weights": "none",
    "freeze": "none",
    "image_size": 32,
    "steps": 12,
    "batch_size": 16,
    "lr": 3e-3,
    "threads": 1,
}
"""What trains in seconds on one thread."""


def paint(folder: Path, per_class: int = 20, seed: int = 0) -> Path:
    """Write noisy pictures of each colour into the folder of its name."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.clip(np.array(colour) + rng.normal(0, 25, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Sixty pictures in three class folders."""
    return paint(tmp_path / "pictures")


@cache
def train_once(place: Path) -> Job:
    """The job `colours` in the workspace `place`, trained in this process the first time it is asked for."""
    data = paint(place.parent / "pictures")
    return houndsight.train(data, name="colours", workspace=place, backend="inline", **SETTINGS)


@pytest.fixture
def colours(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A completed job; `$HOUNDSIGHT_HOME` names its workspace. Shared: tests only look at it."""
    place = tmp_path_factory.getbasetemp() / "colours" / "runs"
    place.parent.mkdir(exist_ok=True)
    monkeypatch.setenv("HOUNDSIGHT_HOME", str(place))
    return train_once(place)
