"""What 20 head trainings cost on cached features, their extraction included, against 20 through the frozen backbone.

    python -m benchmarks.heads [--threads 1] [--json]

Both run `training.loop.fit` with the recipe `seed` (5 epochs of AdamW on a linear head) on the dogs pack with
MobileNetV2, read from the same decoded squares, which are made beforehand. On the cached side everything is measured:
the features of all splits from an empty cache, then 20 trainings with their validation, each with a learning rate and
a seed of its own. Through the backbone one epoch (with its validation) is measured and taken times 5 x 20. Needs data/
and weights/ in $HOUNDSIGHT_TEST_ASSETS, or in the folder `shared` beside the checkout; else nothing is measured.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from houndsight.backends.local import FAST
from houndsight.data.cache import decode_all
from houndsight.data.folder import scan
from houndsight.data.loader import Batches, ImageBatches
from houndsight.features.batches import FeatureBatches
from houndsight.features.extract import Extractor, Features
from houndsight.models.head import make_head
from houndsight.models.network import Network, build
from houndsight.recipes import classifier
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec, Index
from houndsight.training.loop import fit

TRAININGS = 20
WEIGHTS = "weights/mobilenet_v2-imagenet-dequantized.pth"
REACH = 100.0

Cost = dict[str, float]
"""`seconds` of wall time and `cpu` seconds."""


def timed(call: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def specified(assets: Path, threads: int, number: int, **settings: object) -> ClassifierSpec:
    """The recipe `seed` with a learning rate and a seed of its own for each training."""
    rate = 1e-3 * 10 ** ((number - TRAININGS / 2) / TRAININGS)
    return classifier.seed(
        ClassifierSpec.create(
            data=str(assets / "data/dogs"), backbone="mobilenet_v2", weights=str(assets / WEIGHTS), device="cpu",
            threads=threads, workers=1, lr=rate, seed=number, **settings,
        )
    )  # fmt: skip


def train(network: Network, batches: Batches, spec: ClassifierSpec, classes: int, width: int, folder: Path) -> None:
    """One training from a new head, in a folder of its own."""
    network.head = make_head(width, (), classes, 0.0, spec.seed)
    with RecordWriter(folder / "records") as records:
        fit(
            network,
            batches,
            spec,
            checkpoints=folder / "checkpoints",
            records=records,
            stop=lambda: False,
            progress=lambda stage, done, total: None,
        )


def right(network: Network, features: Features, index: Index) -> float:
    """Share of the validation images that the network's head gets right."""
    network.eval()
    with torch.inference_mode():
        answers = network(torch.from_numpy(np.ascontiguousarray(features.splits["valid"]))).argmax(1).numpy()
    return float((answers == np.array(index.splits["valid"].labels)).mean())


def measure(assets: Path, threads: int, place: Path) -> dict[str, object]:
    spec = specified(assets, threads, 0)
    index = scan(spec.data)
    network = build(spec, len(index.classes)).network
    index, squares = decode_all(index, network.preprocess, place / "cache")
    extractor = Extractor(network, index, squares, place / "cache", precision=spec.precision, threads=threads)
    found: list[Features] = []
    extraction = timed(lambda: found.append(extractor.features()))
    features, width = found[0], found[0].splits["train"].shape[1]
    cached: list[Cost] = []
    for number in range(TRAININGS):
        one = specified(assets, threads, number)
        batches = FeatureBatches(index, features.splits, batch_size=one.batch_size, seed=one.seed)
        folder = place / f"cached-{number}"
        cached.append(timed(lambda: train(network, batches, one, len(index.classes), width, folder)))  # noqa: B023
    single = specified(assets, threads, 0, epochs=1)
    few = FeatureBatches(index, features.splits, batch_size=single.batch_size, seed=single.seed)
    train(network, few, single, len(index.classes), width, place / "cached-single")
    by_features = right(network, features, index)
    images = ImageBatches(
        index, squares, network.preprocess, batch_size=single.batch_size, seed=single.seed, workers=1
    )  # fmt: skip
    epoch = timed(lambda: train(network, images, single, len(index.classes), width, place / "through"))
    epochs = spec.epochs or 0
    ours = {key: extraction[key] + sum(each[key] for each in cached) for key in extraction}
    through = {key: epoch[key] * epochs * TRAININGS for key in epoch}
    return {
        "benchmark": "heads", "trainings": TRAININGS, "epochs": epochs, "threads": threads, "runtime": features.runtime,
        "images": {split: len(columns) for split, columns in index.splits.items()},
        "extraction": extraction, "training": {key: float(np.median([each[key] for each in cached])) for key in epoch},
        "cached": ours, "epoch_through_backbone": epoch, "through_backbone": through,
        "ratio": {key: through[key] / ours[key] for key in ours},
        "valid_after_one_epoch": {"features": by_features, "backbone": right(network, features, index)},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Head trainings on cached features and through the backbone.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    named = os.environ.get("HOUNDSIGHT_TEST_ASSETS") or Path(__file__).parents[1].parent / "shared"
    assets = Path(named).absolute()
    if not (assets / "data/dogs").is_dir() or not (assets / WEIGHTS).is_file():
        print(f"  not measured: {assets} lacks data/dogs or {WEIGHTS}; set HOUNDSIGHT_TEST_ASSETS", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as place:
        row = measure(assets, asked.threads, Path(place))
    if asked.json:
        print(json.dumps(row, indent=1))
        return
    for name in ("extraction", "training", "cached", "epoch_through_backbone", "through_backbone"):
        cost = row[name]
        assert isinstance(cost, dict)
        print(f"  {name.replace('_', ' '):24}{cost['seconds']:10.1f} s{cost['cpu']:10.1f} CPU-s")
    ratio = row["ratio"]
    assert isinstance(ratio, dict)
    print(
        f"  {TRAININGS} trainings of {row['epochs']} epochs, features by {row['runtime']}; the fifth line is estimated"
    )
    print(f"  ratio {ratio['cpu']:.0f} by CPU time, {ratio['seconds']:.0f} by wall time, reach {REACH:g}")
    print(f"  right on validation after one epoch of the first: {row['valid_after_one_epoch']}")


if __name__ == "__main__":
    if not FAST.items() <= os.environ.items():  # the allocator reads them when the process starts
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.heads", *sys.argv[1:]], os.environ | FAST)
    main()
