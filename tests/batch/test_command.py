"""`houndsight predict MODEL FOLDER --output` as it is typed: a real model, killed in the middle, and typed again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from houndsight.models import artifact
from houndsight.models.network import build
from houndsight.results import ModelCard
from houndsight.spec import ClassifierSpec
from houndsight.verbs.batch import predict_folder

COUNT = 300
HOUNDSIGHT = (sys.executable, "-c", "import sys; from houndsight.cli.app import main; sys.exit(main())")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a folder of images, one of them broken."""
    root = tmp_path_factory.mktemp("batch")
    network = build(ClassifierSpec(data="x", weights="none", image_size=64, backbone="mobilenet_v3_small"), 3).network
    card = ModelCard(classes=("a", "b", "c"), preprocess=network.preprocess, backbone="mobilenet_v3_small")
    noise = np.random.default_rng(1)
    artifact.save(root / "model", network, card, noise.integers(0, 256, (9, 64, 64, 3), dtype=np.uint8))
    (root / "images").mkdir()
    for number in range(COUNT):
        small = noise.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((640, 480)).save(root / "images" / f"{number:03}.jpg")
    (root / "images" / "007.jpg").write_bytes(b"\xff\xd8\xff broken")
    return root


def command(place: Path, table: str) -> list[str]:
    words = ["predict", str(place / "model"), str(place / "images"), "--output", str(place / table)]
    return [*HOUNDSIGHT, *words, "--json", "--workspace", str(place / "runs")]


def test_killed_and_typed_again(place: Path) -> None:
    whole = predict_folder(place / "model", place / "images", place / "whole.csv", workspace=place / "runs")
    assert (whole.images, whole.fresh, whole.errors) == (COUNT, COUNT, 1)
    assert whole.unreadable[0]["path"] == "007.jpg"
    assert whole.runtime.startswith("openvino")

    cut = place / "cut.csv"
    running = subprocess.Popen(command(place, "cut.csv"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (cut.exists() and cut.stat().st_size > 500):
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    there = cut.read_text().count("\n") - 1
    assert 0 < there < COUNT

    done = subprocess.run(command(place, "cut.csv"), capture_output=True, text=True, check=False)
    assert done.returncode == (0 if there > 7 else 2), done.stderr
    said = json.loads(done.stdout)
    assert (said["images"], said["fresh"]) == (COUNT, COUNT - there)
    assert cut.read_bytes() == (place / "whole.csv").read_bytes()
