"""`code/inference.py` as Amazon's container runs it: alone, in a fresh process, from an unpacked archive."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from houndsight.data import images as pictures
from houndsight.models import artifact, inference
from houndsight.models.network import build
from houndsight.results import ModelCard
from houndsight.spec import ClassifierSpec, Preprocess

ALONE = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, "code")
import inference
assert "houndsight" not in sys.modules and "timm" not in sys.modules
model = inference.model_fn(".")
stored = np.load("samples.npz", allow_pickle=False)
import io, torch
body = io.BytesIO(); np.save(body, stored["images"])
answer = inference.predict_fn(inference.input_fn(body.getvalue(), "application/x-npy"), model)
with torch.inference_mode():
    logits = model.logits(torch.from_numpy(stored["images"]).permute(0, 3, 1, 2).to(model.mean.device)).cpu().numpy()
raw = inference.predict_fn(inference.input_fn(Path(sys.argv[1]).read_bytes(), "image/png"), model)
text, kind = inference.output_fn(raw, "application/json")
print(json.dumps({
    "off": float(np.abs(logits - stored["logits"]).max()), "probabilities": answer["probabilities"].tolist(),
    "image": json.loads(text), "kind": kind, "houndsight": "houndsight" in sys.modules,
}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "timm/test_vit"])
def test_alone_in_a_fresh_process(tmp_path: Path, backbone: str) -> None:
    spec = ClassifierSpec(data="x", weights="none", image_size=64, backbone=backbone, hidden=(6,))
    network = build(spec, 3).network
    card = ModelCard(
        classes=("a", "b", "c"), preprocess=network.preprocess, backbone=backbone, hidden=(6,), temperature=0.8
    )
    rng = np.random.default_rng(0)
    artifact.save(tmp_path / "model", network, card, rng.integers(0, 256, (20, 64, 64, 3), dtype=np.uint8))
    artifact.pack(tmp_path / "model", tmp_path / "model.tar.gz")
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        tar.extractall(tmp_path / "opt", filter="data")
    Image.fromarray(rng.integers(0, 256, (90, 130, 3), dtype=np.uint8)).save(tmp_path / "one.png")
    script = ALONE.replace('and "timm" not in sys.modules', "")
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "one.png")],
        cwd=tmp_path / "opt",
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert found["off"] < 1e-5
    assert not found["houndsight"]
    assert found["kind"] == "application/json"

    from houndsight.serving.predictor import Predictor

    ours = Predictor.load(tmp_path / "model.tar.gz")
    np.testing.assert_allclose(
        ours.predict(artifact.load(tmp_path / "model").images), found["probabilities"], atol=1e-5
    )
    row = ours.predict(ours.decode((tmp_path / "one.png").read_bytes())[None])[0]
    expected = {each["class"]: each["probability"] for each in ours.encode(row, 3)}
    for each in found["image"]["predictions"]:
        assert each["probability"] == pytest.approx(expected[each["class"]], abs=1e-5)


def test_it_imports_nothing_of_ours() -> None:
    text = Path(inference.__file__).read_text()
    assert "import houndsight" not in text
    assert "from houndsight" not in text


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("size", [(90, 70), (33, 81), (31, 400), (64, 64), (37, 37)])
@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_it_sees_what_training_saw(mode: str, size: tuple[int, int], kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    picture = Image.fromarray(noise)
    if mode == "I;16":
        picture = Image.fromarray(noise[..., 0].astype(np.uint16) * 256 + 7)
    elif mode != "RGBA":
        picture = picture.convert(mode)
    out = io.BytesIO()
    picture.save(out, "PNG")
    preprocess = Preprocess(image_size=32, resize=37, interpolation=kind)
    ours = pictures.fit_to(pictures.decode(out.getvalue()), preprocess)
    theirs = inference.fit_to(inference.decode(out.getvalue()), preprocess.model_dump())
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_it_turns_pictures_upright(turned: int, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turned
    out = io.BytesIO()
    Image.fromarray(noise).save(out, kind, exif=exif)
    assert np.array_equal(inference.decode(out.getvalue()), pictures.decode(out.getvalue()))


def test_what_the_handlers_refuse() -> None:
    with pytest.raises(ValueError, match="is not taken"):
        inference.input_fn(b"", None)
    with pytest.raises(ValueError, match="is not taken"):
        inference.input_fn(b'{"url": "http://127.0.0.1"}', "application/json")
    for bad in (np.zeros((2, 2), np.uint8), np.zeros((1, 4, 4, 3)), np.zeros((0, 4, 4, 3), np.uint8)):
        out = io.BytesIO()
        np.save(out, bad)
        with pytest.raises(ValueError, match="Expected"):
            inference.input_fn(out.getvalue(), "application/x-npy")
    out = io.BytesIO()
    np.save(out, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        inference.input_fn(out.getvalue(), "application/x-npy")
    with pytest.raises(ValueError, match="bytes"):
        inference.decode(bytes(inference.MAX_BYTES + 1))


def test_answers_in_both_forms() -> None:
    rows = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]])
    prediction = {"classes": ["a", "b", "c"], "probabilities": rows, "single": False}
    assert inference.output_fn(prediction, "*/*") == inference.output_fn(prediction, None)
    body, kind = inference.output_fn(prediction)
    assert kind == "application/json"
    assert [each["class"] for each in json.loads(body)[0]["predictions"]] == ["b", "c", "a"]
    body, kind = inference.output_fn(prediction, "application/x-npy")
    assert kind == "application/x-npy"
    assert np.array_equal(np.load(io.BytesIO(body), allow_pickle=False), rows)


def test_a_gpu_is_taken_where_there_is_one(tmp_path: Path) -> None:
    network = build(ClassifierSpec(data="x", weights="none", image_size=32, backbone="squeezenet1_1"), 2).network
    card = ModelCard(classes=("a", "b"), preprocess=network.preprocess, backbone="squeezenet1_1")
    artifact.save(tmp_path, network, card, np.zeros((1, 32, 32, 3), np.uint8))
    model = inference.model_fn(str(tmp_path))
    assert model.mean.is_cuda == torch.cuda.is_available()
    assert not model.training
