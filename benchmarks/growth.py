"""How cost grows with the data: scan, check, decode cache and one epoch of batches for 1k, 10k and 100k images.

    python -m benchmarks.growth [--sizes 1000 10000 100000] [--workers 1] [--json]

The images are small JPEGs (80 x 64), all different, made in a temporary folder; squares of 36 px are cached and inputs
of 32 px cut from them, so that 100k stay small. Each stage runs in a fresh process with the memory settings of jobs.
Seconds and CPU-seconds are the stage's own, without imports and without reading the index. Memory is the whole
process's: `anonymous` is what it holds itself (sampled every 10 ms), `peak` counts the pages of mapped files as well,
which the kernel takes back when it needs them. What memory grows by is told in bytes an image, from the smallest size
to the largest.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from houndsight.backends.local import FAST
from houndsight.spec import Index, Preprocess
from houndsight.workspace import write_json

CLASSES = 50
PREPROCESS = Preprocess(image_size=32, resize=36)
BATCH = 64
STAGES = ("scan", "check", "decode", "again", "epoch")
SAMPLE_SECONDS = 0.01


def make(folder: Path, first: int, last: int) -> None:
    """Images `first` to `last`, each a smooth pattern of its own: random enough that none looks like another."""
    import simplejpeg
    from PIL import Image

    for number in range(first, last):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8))
        pixels = np.asarray(coarse.resize((80, 64), Image.Resampling.BICUBIC))
        place = folder / f"class_{number % CLASSES:02}" / f"{number:06}.jpg"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(simplejpeg.encode_jpeg(pixels, quality=85))


def memory() -> dict[str, int]:
    """Anonymous and peak resident bytes of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return {name: 1024 * int(lines[field].split()[0]) for name, field in (("anonymous", "RssAnon"), ("peak", "VmHWM"))}


class Watch:
    """Keeps the largest anonymous memory of this process until it is closed."""

    def __init__(self) -> None:
        self.most = memory()["anonymous"]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.most = max(self.most, memory()["anonymous"])

    def close(self) -> int:
        self._done.set()
        self._thread.join()
        return max(self.most, memory()["anonymous"])


def prepared(stage: str, images: Path, state: Path, workers: int) -> Callable[[], Any]:
    """The stage as a call, with everything imported and read that is not its own work."""
    if stage == "scan":
        from houndsight.data.folder import scan

        return lambda: scan(images)
    index = Index.read(state / "index.json")
    if stage == "check":
        from houndsight.data.check import check

        return lambda: check(index, workers=workers)
    from houndsight.data.cache import decode_all
    from houndsight.data.images import square

    square(np.zeros((64, 80, 3), np.uint8), PREPROCESS)  # the first resize imports what resizes
    if stage in ("decode", "again"):
        return lambda: decode_all(index, PREPROCESS, state, workers=workers)
    from houndsight.data.loader import ImageBatches

    index, squares = decode_all(index, PREPROCESS, state, workers=workers)
    batches = ImageBatches(index, squares, PREPROCESS, batch_size=BATCH, seed=0, augment="crop-flip", workers=workers)
    return lambda: sum(len(batch.labels) for batch in batches.train(0))


def run_stage(stage: str, images: Path, state: Path, workers: int) -> dict[str, float]:
    """Seconds, CPU-seconds and memory of one stage in this process."""
    call = prepared(stage, images, state, workers)
    before = memory()["anonymous"]
    watch = Watch()
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    anonymous = watch.close()
    if stage == "scan":
        write_json(state / "index.json", result)
    return {"seconds": wall, "cpu": cpu, "before": before, "anonymous": anonymous, "peak": memory()["peak"]}


def measure(sizes: list[int], workers: int) -> dict[str, dict[int, dict[str, float]]]:
    """stage -> size -> figures; the images of a size are the first ones of the next."""
    rows: dict[str, dict[int, dict[str, float]]] = {stage: {} for stage in STAGES}
    environment = os.environ | FAST | {"OMP_NUM_THREADS": str(workers), "OPENBLAS_NUM_THREADS": str(workers)}
    with tempfile.TemporaryDirectory() as place:
        images = Path(place) / "images"
        images.mkdir()
        made = 0
        for size in sizes:
            make(images, made, size)
            made = size
            state = Path(place) / str(size)
            state.mkdir()
            for stage in STAGES:
                command = [sys.executable, "-m", "benchmarks.growth", "--stage", stage, str(images), str(state)]
                done = subprocess.run(
                    [*command, "--workers", str(workers)], check=True, stdout=subprocess.PIPE, env=environment
                )
                rows[stage][size] = json.loads(done.stdout)
                print(f"{size} {stage}: {rows[stage][size]['seconds']:.2f} s", file=sys.stderr, flush=True)
    return rows


def show(rows: dict[str, dict[int, dict[str, float]]]) -> None:
    print(f"{'stage':8}{'images':>9}{'s':>9}{'CPU-s':>9}{'CPU-us/image':>14}{'anonymous MB':>14}{'peak MB':>9}")
    for stage, sizes in rows.items():
        for size, row in sizes.items():
            each = 1e6 * row["cpu"] / size
            megabytes = f"{row['anonymous'] / 1e6:14.0f}{row['peak'] / 1e6:9.0f}"
            print(f"{stage:8}{size:9,}{row['seconds']:9.2f}{row['cpu']:9.2f}{each:14.0f}{megabytes}")
        low, high = min(sizes), max(sizes)
        if low < high:
            grown = (sizes[high]["anonymous"] - sizes[low]["anonymous"]) / (high - low)
            print(f"{'':8}anonymous memory grows by {grown:,.0f} bytes an image")


def main() -> None:
    parser = argparse.ArgumentParser(description="How cost grows with the data.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stage", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stage:
        stage, images, state = asked.stage
        print(json.dumps(run_stage(stage, Path(images), Path(state), asked.workers)))
        return
    rows = measure(sorted(asked.sizes), asked.workers)
    if asked.json:
        print(json.dumps({"benchmark": "growth", "workers": asked.workers, "rows": rows}, indent=1))
    else:
        show(rows)


if __name__ == "__main__":
    main()
