"""A model as ONNX and as OpenVINO: read back by their own runtimes, compared, described, refused where it differs."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from houndsight.errors import DependencyError, ModelError, SpecError, WorkspaceError
from houndsight.models import private
from houndsight.verbs.export import export

CLASSES = ("beagle", "größer", 'with "quotes", and commas')


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of an untrained network with a temperature."""
    import torch

    from houndsight.models import artifact
    from houndsight.models.network import build
    from houndsight.results import ModelCard
    from houndsight.spec import ClassifierSpec

    torch.manual_seed(0)
    spec = ClassifierSpec(data="x", weights="none", image_size=32, backbone="shufflenet_v2_x0_5")
    network = build(spec, 3).network.eval()
    samples = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    card = ModelCard(classes=CLASSES, preprocess=network.preprocess, backbone=network.name, temperature=0.1)
    folder = tmp_path_factory.mktemp("pets") / "pets"
    artifact.save(folder, network, card, samples)
    return folder


def expected(model: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    from houndsight.serving.predictor import Predictor

    return Predictor.load(model).predict(images)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.mark.slow
def test_onnx(model: Path, images: NDArray[np.uint8], tmp_path: Path) -> None:

    folder, found = export(model, "onnx", tmp_path / "out")
    assert (found.format, found.file, found.images, found.agreement) == ("onnx", "model.onnx", 9, 1.0)
    assert found.difference < 1e-4
    assert found.checked_by.startswith("onnxruntime")
    assert {each.name for each in folder.iterdir()} == {"model.onnx", "model.json", "export.json"}
    assert found.bytes == (folder / "model.onnx").stat().st_size
    session = private.onnxruntime().InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    assert (taken.name, taken.type, taken.shape[1:]) == ("images", "tensor(uint8)", [32, 32, 3])
    for count in (1, 2, 5):
        logits, probabilities = session.run(["logits", "probabilities"], {"images": images[:count]})
        np.testing.assert_allclose(probabilities, expected(model, images[:count]), atol=1e-5)
        assert logits.shape == (count, 3)
    told = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(told["classes"])) == CLASSES
    assert json.loads(told["preprocess"])["image_size"] == 32


@pytest.mark.slow
def test_openvino(model: Path, images: NDArray[np.uint8], tmp_path: Path) -> None:

    folder, found = export(model, "openvino", tmp_path / "out")
    assert (found.agreement, found.images) == (1.0, 9)
    assert found.difference < 1e-4
    folder, again = export(model, "openvino", tmp_path / "out")  # again, over its own
    assert again.model_copy(update={"bytes": found.bytes}) == found  # names in it end in numbers that go on
    assert {each.name for each in folder.iterdir()} == {"model.xml", "model.bin", "model.json", "export.json"}
    read = private.core().read_model(folder / "model.xml")
    assert [each.any_name for each in (*read.inputs, *read.outputs)] == ["images", "logits", "probabilities"]
    assert tuple(json.loads(read.get_rt_info(["houndsight", "classes"]).value)) == CLASSES
    compiled = private.core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for count in (1, 4):
        got = compiled([images[:count]])["probabilities"]
        np.testing.assert_allclose(got, expected(model, images[:count]), atol=1e-5)


@pytest.mark.slow
def test_what_answers_otherwise_is_not_kept(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from houndsight.models import artifact
    from houndsight.models import export as writing

    loaded = artifact.load(model)
    loaded.logits[:] = loaded.logits[:, ::-1]  # as if the network had been another one
    with pytest.raises(ModelError, match="it is not kept"):
        writing.export(loaded, "openvino", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(DependencyError) as caught:
        writing.export(loaded, "onnx", tmp_path / "out")
    assert caught.value.repair == "pip install 'houndsight[onnx]'"


@pytest.mark.parametrize(
    ("to", "error", "said"),
    [("onx", SpecError, "Did you mean 'onnx'"), ("onnx", WorkspaceError, "exists already, and is no earlier export")],
)
def test_wrong_requests_load_nothing(tmp_path: Path, to: str, error: Any, said: str) -> None:
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(error, match=said):
        export(tmp_path, to, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").exists()
