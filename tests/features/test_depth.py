"""Networks cut at a depth: front and tail are the network, and training on the cache is training through it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from houndsight.data.cache import DecodedImages, decode_all
from houndsight.data.folder import scan
from houndsight.data.loader import ImageBatches
from houndsight.features.batches import FeatureBatches
from houndsight.features.depth import cut
from houndsight.models.artifact import load
from houndsight.models.network import build
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec, Index
from houndsight.training.evaluate import logits
from houndsight.training.loop import fit
from houndsight.training.prepare import prepare
from houndsight.verbs.digits import write_digits
from houndsight.verbs.train import train
from houndsight.workspace import Workspace

Material = tuple[Index, DecodedImages, Path]
SETTINGS: dict[str, Any] = {
    "weights": "none",
    "image_size": 64,
    "threads": 1,
    "precision": "float32",
    "lr": 0.01,
    "weight_decay": 0.01,
}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder / "data")
    for image in sorted((folder / "data").glob("*/*"))[::2] + sorted((folder / "data").glob("*/*"))[1::4]:
        image.unlink()
    spec = ClassifierSpec.create(data="-", backbone="resnet18", **SETTINGS)
    index, images = decode_all(scan(folder / "data"), build(spec, 10).network.preprocess, folder / "cache")
    return index, images, folder / "cache"


@pytest.mark.parametrize(
    ("backbone", "depths"),
    [("resnet18", (1, 3, 4)), ("mobilenet_v3_small", (2, 9)), ("densenet121", (3,)), ("timm/resnet10t", (1, 2))],
)
def test_front_and_tail_are_the_network(backbone: str, depths: tuple[int, ...]) -> None:
    network = build(ClassifierSpec.create(data="-", backbone=backbone, **SETTINGS), 3).network.eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    names = list(network.state_dict())
    with torch.inference_mode():
        expected = network(images)
        for depth in depths:
            front = cut(network, depth, images)
            assert front is not None
            maps = front(images)
            network.leave_out(front.modules_in_order)
            found = network(maps)
            network.put_back()
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert list(network.state_dict()) == names


def test_a_transformer_stays_whole() -> None:
    spec = ClassifierSpec.create(data="-", backbone="timm/vit_tiny_patch16_224", weights="none", threads=1)
    network = build(spec, 3).network.eval()
    assert cut(network, 3, torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)) is None
    assert network(torch.zeros(1, 3, 224, 224, dtype=torch.uint8)).shape == (1, 3)


# A rounding error of 1e-7 in a frozen weight moves ResNet-18's logits by 7e-4 in 5 steps and by 0.014 in 20: batch
# norm passes it on to everything. The cache moves them as far, no further; the first step and a network without
# batch norm tell whether it is the same training.
@pytest.mark.parametrize(("backbone", "freeze", "steps"), [("resnet18", 4, 1), ("squeezenet1_1", 5, 20)])
def test_training_on_the_cache_equals_training_through_the_frozen_stages(
    material: Material, tmp_path: Path, backbone: str, freeze: int, steps: int
) -> None:
    index, images, cache = material
    asked = {**SETTINGS, "optimizer": "sgd", "backbone": backbone, "freeze": freeze, "steps": steps}
    spec = ClassifierSpec.create(data="-", recipe="plain", **asked)
    found = []
    for cached in (False, True):
        network = build(spec, 10).network
        through = ImageBatches(index, images, network.preprocess, batch_size=32, seed=0)
        with RecordWriter(tmp_path / f"records-{cached}") as records:
            batches = prepare(spec, network, index, images, cache, records, lambda *_: None) if cached else through
            assert isinstance(batches, FeatureBatches) is cached
            fit(
                network,
                batches,
                spec,
                checkpoints=tmp_path / f"checkpoints-{cached}",
                records=records,
                stop=lambda: False,
                progress=lambda *_: None,
            )
        network.put_back()
        found.append(logits(network, through, "valid"))
    assert np.ptp(found[0]) > 0.5
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


def test_a_job_with_frozen_stages_leaves_a_whole_model(workspace: Workspace, tmp_path: Path) -> None:
    write_digits(tmp_path / "data")
    for image in sorted((tmp_path / "data").glob("*/*"))[::2] + sorted((tmp_path / "data").glob("*/*"))[1::4]:
        image.unlink()
    asked = {**SETTINGS, "backbone": "squeezenet1_1", "freeze": 5, "steps": 4}
    job = train(tmp_path / "data", backend="inline", **asked)
    assert "run once per image" in job.files.log.read_text()
    assert load(job.files.model).network.backbone.state_dict().keys() == (
        build(ClassifierSpec.create(data="-", **asked), 10).network.backbone.state_dict().keys()
    )
