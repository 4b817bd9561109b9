"""Features on real digits and a real network: equal with and without the cache, by any runtime, after any crash."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from houndsight.data.cache import DecodedImages, decode_all
from houndsight.data.folder import scan
from houndsight.data.loader import ImageBatches
from houndsight.features import store
from houndsight.features.batches import FeatureBatches
from houndsight.features.extract import Extractor, eager_features
from houndsight.models import runtime
from houndsight.models.network import Network, build
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec, Index
from houndsight.training.evaluate import logits
from houndsight.training.loop import fit
from houndsight.verbs.digits import write_digits

Material = tuple[Index, DecodedImages, Network, Path]
SETTINGS = {"backbone": "squeezenet1_1", "weights": "none", "image_size": 32, "threads": 1}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder / "data")
    for image in sorted((folder / "data").glob("*/*"))[::2] + sorted((folder / "data").glob("*/*"))[1::4]:
        image.unlink()  # 450 are enough
    spec = ClassifierSpec.create(data=str(folder / "data"), **SETTINGS)
    network = build(spec, 10).network
    index, images = decode_all(scan(folder / "data"), network.preprocess, folder / "cache")
    return index, images, network.eval(), folder / "cache"


def eager(network: Network, batches: ImageBatches) -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.concatenate([network.features(batch.images).numpy() for batch in batches.evaluate("train")])


def extractor(material: Material, **settings: object) -> Extractor:
    index, images, network, cache = material
    return Extractor(network, index, images, cache, **settings)  # type: ignore[arg-type]


def test_features_are_those_of_the_network_itself(material: Material) -> None:
    index, images, network, _ = material
    expected = eager(network, ImageBatches(index, images, network.preprocess, batch_size=64, seed=0))
    found = extractor(material, precision="float32").features()
    assert found.splits["train"].shape == expected.shape
    np.testing.assert_allclose(found.splits["train"], expected, atol=1e-4)
    assert {split: len(rows) for split, rows in found.splits.items()} == {
        split: len(columns) for split, columns in index.splits.items()
    }


def test_a_second_job_computes_nothing(material: Material) -> None:
    first = extractor(material, precision="float32").features()
    again = extractor(material, precision="float32").features()
    assert again.runtime == "the cache"
    np.testing.assert_array_equal(again.splits["valid"], first.splits["valid"])


def test_samples_go_through_the_backbone_once(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    """And give the logits that the whole network gives."""
    _, images, network, cache = material
    samples = images.sample("valid", 20, 32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(samples).permute(0, 3, 1, 2))
        found = network.head(torch.from_numpy(np.array(eager_features(network, samples, cache))))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)
    monkeypatch.setattr(runtime.EagerRuntime, "__call__", None)
    eager_features(network, samples, cache)


def test_other_weights_are_other_features(material: Material) -> None:
    index, images, _, cache = material
    other = build(ClassifierSpec.create(data="-", seed=7, **SETTINGS), 10).network.eval()
    first = extractor(material, precision="float32").features()
    found = Extractor(other, index, images, cache, precision="float32").features()
    assert found.runtime != "the cache"
    assert not np.allclose(found.splits["valid"], first.splits["valid"])


def test_views_are_the_augmented_images_of_their_epoch(material: Material) -> None:
    index, images, network, _ = material
    views = extractor(material, precision="float32").views(2, 5, "crop-flip")
    batches = ImageBatches(index, images, network.preprocess, batch_size=64, seed=5, augment="crop-flip")
    with torch.inference_mode():
        expected = np.concatenate([network.features(batch.images).numpy() for batch in batches.view(1)])
    np.testing.assert_allclose(views[1], expected, atol=1e-4)
    assert not np.allclose(views[0], views[1])


def test_training_on_the_cache_equals_training_through_the_backbone(material: Material, tmp_path: Path) -> None:
    index, images, _, _ = material
    spec = ClassifierSpec.create(data="-", freeze="all", epochs=3, lr=0.01, weight_decay=0.01, **SETTINGS)
    found = []
    for cached in (False, True):
        network = build(spec, 10).network
        through = ImageBatches(index, images, network.preprocess, batch_size=32, seed=0)
        features = Extractor(network, index, images, tmp_path, precision="float32").features()
        batches = FeatureBatches(index, features.splits, batch_size=32, seed=0)
        with RecordWriter(tmp_path / f"records-{cached}") as records:
            fit(
                network,
                batches if cached else through,
                spec,
                checkpoints=tmp_path / f"checkpoints-{cached}",
                records=records,
                stop=lambda: False,
                progress=lambda *_: None,
            )
        found.append(logits(network, through, "valid"))
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


class Front(torch.nn.Module):
    """A network's frozen part alone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network.features(x)
        return features


def test_a_runtime_that_disagrees_is_not_used(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    _, images, network, _ = material
    sample = np.ascontiguousarray(np.asarray(images.pixels[:8])[:, :32, :32])

    assert runtime.fastest(Front(network), sample).name.startswith("openvino")
    monkeypatch.setattr(runtime, "MIN_COSINE", 1.1)  # no runtime agrees so well
    assert runtime.fastest(Front(network), sample).name == "torch-cpu-float32"


def test_batches_of_any_size_get_the_same_answers(material: Material) -> None:
    _, images, network, _ = material
    sample = np.ascontiguousarray(np.asarray(images.pixels[:9])[:, :32, :32])

    compiled = runtime.OpenVINORuntime(Front(network), 32, "float32")
    expected = runtime.EagerRuntime(Front(network))(sample)
    for size in range(1, 10):
        np.testing.assert_allclose(compiled(sample[:size]), expected[:size], atol=1e-4)


def test_a_killed_writer_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom houndsight.features import store\n"
        "def fill(out):\n out[:5] = 1\n print('half', flush=True)\n sys.stdin.read()\n"
        "store.cached(Path(sys.argv[1]), 'key', (10, 3), fill)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "half\n"
    child.kill()
    child.communicate()

    made = []

    def fill(out: NDArray[np.float32]) -> None:
        made.append(len(out))
        out.fill(2.0)

    array = store.cached(tmp_path, "key", (10, 3), fill)
    assert len(made) == 1
    assert (array == 2.0).all()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["key.lock", "key.npy"]


def test_two_at_once_compute_once(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom houndsight.features import store\n"
        "def fill(out):\n print('filled', flush=True)\n out.fill(3)\n"
        "store.cached(Path(sys.argv[1]), 'key', (1000, 100), fill)\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert sum(child.communicate()[0].count("filled") for child in children) == 1
    assert [child.returncode for child in children] == [0, 0, 0]


def test_the_least_recently_used_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_BYTES", 3000)
    for number, key in enumerate(("old", "new")):
        store.cached(tmp_path, key, (10, 30), lambda out: out.fill(1))
        stamp = time.time() - 100 + number
        os.utime(tmp_path / f"{key}.npy", (stamp, stamp))
    store.cached(tmp_path, "third", (10, 30), lambda out: out.fill(1))
    assert sorted(each.stem for each in tmp_path.glob("*.npy")) == ["new", "third"]
