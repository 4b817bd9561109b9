"""How long one JPEG takes to become the network's square: ours beside Pillow and torchvision v2, in one run.

    python -m benchmarks.decode [FOLDER] [--rounds 9] [--images 50]

Without FOLDER, 500 x 375 JPEGs of 4:2:0 are made. Rows are measured in turn, round after round, in CPU time of this
process with one thread each, so that a neighbour's load hits all of them alike. A table goes to standard error, JSON to
standard output.
"""

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision.transforms import v2

from houndsight.data import images
from houndsight.data.folder import scan
from houndsight.spec import Preprocess

Pixels = npt.NDArray[np.uint8]
PREPROCESS = Preprocess()
REFERENCE = "Pillow + torchvision v2"


def made(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    files = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (15, 20, 3), np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.float32)
        noisy = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(noisy).save(out, "JPEG", quality=88, subsampling="4:2:0")
        files.append(out.getvalue())
    return files


def found(folder: str, count: int) -> list[bytes]:
    index = scan(folder)
    paths = [path for split in index.splits.values() for path in split.paths]
    return [images.read(Path(index.root, path)) for path in paths[:: max(1, len(paths) // count)][:count]]


def pillow(data: bytes) -> Pixels:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = PREPROCESS.resize / min(image.size)
    width, height = (int(scale * side + 1e-6) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    return np.asarray(image.crop((left, top, left + 224, top + 224)))


transform = v2.Compose([v2.PILToTensor(), v2.Resize(256, antialias=True), v2.CenterCrop(224)])


def pillow_and_torchvision(data: bytes) -> Pixels:
    image_CHW: torch.Tensor = transform(Image.open(io.BytesIO(data)).convert("RGB"))
    pixels: Pixels = image_CHW.permute(1, 2, 0).numpy()
    return pixels


def ours(data: bytes) -> Pixels:
    return images.fit_to(images.decode(data), PREPROCESS)


ROWS: dict[str, Callable[[bytes], Pixels]] = {
    "Pillow alone": pillow,
    REFERENCE: pillow_and_torchvision,
    "houndsight": ours,
}


def measure(files: list[bytes], rounds: int) -> dict[str, list[float]]:
    """CPU ms an image of each row, one figure a round."""
    taken: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(rounds):
        for name, way in ROWS.items():
            start = time.process_time()
            for data in files:
                way(data)
            taken[name].append((time.process_time() - start) * 1e3 / len(files))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description="Decode table.")
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=50)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    files = found(asked.folder, asked.images) if asked.folder else made(asked.images)
    exact = [pillow(data).astype(np.int16) for data in files]
    differ = {
        name: np.mean([np.abs(way(data) - image).mean() for data, image in zip(files, exact, strict=True)])
        for name, way in ROWS.items()
    }
    taken = measure(files, asked.rounds)
    middle = {name: statistics.median(times) for name, times in taken.items()}
    table = {
        name: {
            "cpu_ms": round(middle[name], 3),
            "min": round(min(times), 3),
            "max": round(max(times), 3),
            "ratio": round(middle[name] / middle[REFERENCE], 3),
            "mean_difference": round(float(differ[name]), 4),
        }
        for name, times in taken.items()
    }
    size = round(sum(map(len, files)) / len(files) / 1024)
    print(json.dumps({"images": len(files), "kib": size, "rounds": asked.rounds, "rows": table}, indent=1))
    print(f"{'':26}{'ms':>8}{'min':>8}{'max':>8}{'ratio':>8}{'difference':>12}", file=sys.stderr)
    for name, row in table.items():
        cells = f"{row['cpu_ms']:8.3f}{row['min']:8.3f}{row['max']:8.3f}{row['ratio']:8.2f}"
        print(f"{name:26}{cells}{row['mean_difference']:12.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
