"""The predictor: the same calibrated answers from job, folder and archive, and none from a damaged model."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from houndsight.errors import ImageError, ModelError
from houndsight.models import artifact
from houndsight.models.network import build
from houndsight.results import ModelCard
from houndsight.serving.predictor import Predictor
from houndsight.spec import ClassifierSpec

CLASSES = ("beagle", "corgi", "collie")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job's folder with a model in it, folder and archive."""
    folder = tmp_path_factory.mktemp("job")
    network = build(ClassifierSpec(data="x", weights="none", image_size=48, backbone="mobilenet_v3_small"), 3).network
    card = ModelCard(classes=CLASSES, preprocess=network.preprocess, backbone="mobilenet_v3_small", temperature=0.02)
    samples = np.random.default_rng(1).integers(0, 256, (9, 48, 48, 3), dtype=np.uint8)
    artifact.save(folder / "model", network, card, samples)
    artifact.pack(folder / "model", folder / "output" / "model.tar.gz")
    return folder


@pytest.fixture(scope="module")
def predictor(job: Path) -> Predictor:
    return Predictor.load(job)


def picture(seed: int = 0, kind: str = "PNG") -> bytes:
    noise: NDArray[np.uint8] = np.random.default_rng(seed).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((130, 90)).save(out, kind)
    return out.getvalue()


def test_the_same_from_job_folder_and_archive(job: Path) -> None:
    batch = None
    rows = []
    for place in (job, str(job / "model"), job / "output" / "model.tar.gz"):
        found = Predictor.load(place)
        batch = np.stack([found.decode(picture(seed)) for seed in range(4)])
        rows.append(found.predict(batch))
    assert batch is not None
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)
    np.testing.assert_allclose(rows[0], rows[2], atol=1e-5)


def test_probabilities(predictor: Predictor) -> None:
    batch = np.stack([predictor.decode(picture(seed, "JPEG")) for seed in range(5)])
    rows = predictor.predict(batch)
    assert rows.shape == (5, 3)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-12)
    scaled = np.exp(predictor.logits(batch).astype(np.float64) / 0.02)
    np.testing.assert_allclose(rows, scaled / scaled.sum(axis=1, keepdims=True), atol=1e-9)


def test_one_image_does_not_depend_on_its_neighbours(predictor: Predictor) -> None:
    batch = np.stack([predictor.decode(picture(seed)) for seed in range(6)])
    alone = np.concatenate([predictor.predict(each[None]) for each in batch])
    np.testing.assert_allclose(predictor.predict(batch), alone, atol=1e-5)


def test_encode(predictor: Predictor) -> None:
    row = np.array([0.2, 0.5, 0.3])
    assert predictor.encode(row, 2) == [
        {"class": "corgi", "probability": 0.5},
        {"class": "collie", "probability": 0.3},
    ]
    assert len(predictor.encode(row, 99)) == 3


def test_extreme_logits_do_not_overflow(predictor: Predictor) -> None:
    rows = predictor.predict(np.stack([np.zeros((48, 48, 3), np.uint8), np.full((48, 48, 3), 255, np.uint8)]))
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("data", [b"", b"<html>", picture()[:200], b"\xff\xd8\xff\xe0broken"])
def test_a_broken_image(predictor: Predictor, data: bytes) -> None:
    with pytest.raises(ImageError):
        predictor.decode(data)


@pytest.mark.parametrize("batch", [np.zeros((1, 47, 48, 3), np.uint8), np.zeros((1, 48, 48, 3), np.float32)])
def test_a_batch_that_is_no_batch(predictor: Predictor, batch: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        predictor.predict(batch)


def test_damaged_weights_are_noticed(job: Path, tmp_path: Path) -> None:
    """Weights that fit but are not those that were saved: only the stored images tell."""
    for name in ("model.json", "samples.npz"):
        (tmp_path / name).write_bytes((job / "model" / name).read_bytes())
    state = load_file(job / "model" / "model.safetensors")
    state["head.1.bias"] = -state["head.1.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="answers its own stored images otherwise"):
        Predictor.load(tmp_path)
