"""What an epoch costs with our loop, fastai, Lightning and timm's train.py: same images, network, batch and precision.

    python -m benchmarks.trainers [--model mobilenetv3_small_050] [--images 30] [--repeats 3] [--json]

Each trainer runs as people start it, its own loader included, twice: over 1 and over 4 epochs. An epoch is a third of
the difference, so that start and import do not count; CPU is that of the whole process tree. Once as documented
(`usual`) and once with what its documentation offers for speed on a CPU (`best`): channels_last, workers that stay, no
bar, no logger. Every run is from random weights in float32 at 224 px in batches of 32, with validation after each
epoch, on a part of the dogs pack, and trainers take turns. The others need a Python of their own, named by
$HOUNDSIGHT_PEERS_PYTHON, with fastai, lightning and timm installed, and timm's train.py in $HOUNDSIGHT_TIMM_TRAIN.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from houndsight.backends.local import FAST

HERE = Path(__file__).parent
EPOCHS = (1, 4)


def commands(folder: Path, model: str, epochs: int) -> dict[str, list[str]]:
    """Trainer -> its command line."""
    python, timm = os.environ.get("HOUNDSIGHT_PEERS_PYTHON", ""), os.environ.get("HOUNDSIGHT_TIMM_TRAIN", "")
    found = {
        "houndsight": [sys.executable, str(HERE / "peers" / "houndsight_train.py"), str(folder), model, str(epochs)],
    }
    for name in ("fastai", "lightning") if python else ():
        for setting in ("usual", "best"):
            script = str(HERE / "peers" / f"{name}_train.py")
            found[f"{name} {setting}"] = [python, script, str(folder), model, str(epochs), setting]
    if python and timm:
        plain = [
            *(python, timm, "--data-dir", str(folder), "--train-split", "train", "--val-split", "valid"),
            *("--model", model, "--num-classes", str(len(list((folder / "train").iterdir()))), "--img-size", "224"),
            *("-b", "32", "--epochs", str(epochs), "--device", "cpu", "--opt", "adamw", "--lr", "1e-3", "--no-aug"),
            *("--warmup-epochs", "0", "--cooldown-epochs", "0", "--sched", "step", "--decay-epochs", "1000"),
            *("--output", str(folder / "timm")),
        ]
        found["timm usual"] = plain
        found["timm best"] = [*plain, "--channels-last", "-j", "2", "--no-prefetcher"]
    return found


def subset(assets: Path, images: int, place: Path) -> Path:
    """A folder of links to `images` of the training images of each class, and to all validation images."""
    for split, most in (("train", images), ("valid", 10**6)):
        for source in sorted((assets / "data/dogs" / split).iterdir())[:10]:
            (place / split / source.name).mkdir(parents=True)
            for image in sorted(source.iterdir())[:most]:
                (place / split / source.name / image.name).symlink_to(image)
    return place


def cost(command: list[str], workspace: Path) -> tuple[float, float]:
    """(seconds, CPU-seconds) of a command and everything it started."""
    shutil.rmtree(workspace, ignore_errors=True)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"HOUNDSIGHT_HOME": str(workspace), "PYTHONWARNINGS": "ignore"}
    if command[0] == sys.executable:
        environment |= FAST  # as every job of ours has them
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, used


def measure(assets: Path, model: str, images: int, repeats: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = subset(assets, images, Path(place) / "data")
        few, many = (commands(folder, model, epochs) for epochs in EPOCHS)
        for _ in range(repeats):
            for name in few:
                (short, little), (long, much) = (cost(each[name], Path(place) / "runs") for each in (few, many))
                spread = EPOCHS[1] - EPOCHS[0]
                found.setdefault(name, []).append(((long - short) / spread, (much - little) / spread))
                print(f"{name}: {found[name][-1][0]:.2f} s, {found[name][-1][1]:.2f} CPU-s", file=sys.stderr)
    ours = median(cpu for _, cpu in found["houndsight"])
    return {
        name: {
            "seconds": median(each[0] for each in runs),
            "cpu": median(each[1] for each in runs),
            "ratio": median(each[1] for each in runs) / ours,
        }
        for name, runs in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenetv3_small_050")
    parser.add_argument("--images", type=int, default=36, help="training images of each of 10 classes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    assets = Path(os.environ.get("HOUNDSIGHT_TEST_ASSETS") or HERE.parents[1] / "shared").absolute()
    if not (assets / "data/dogs").is_dir():
        sys.exit("The dogs pack is needed: set HOUNDSIGHT_TEST_ASSETS to the folder that has data/.")
    found = measure(assets, given.model, given.images, given.repeats)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'trainer':18}{'s an epoch':>12}{'CPU-s':>8}{'CPU over ours':>15}")
    for name, row in found.items():
        print(f"{name:18}{row['seconds']:12.2f}{row['cpu']:8.2f}{row['ratio']:15.2f}")


if __name__ == "__main__":
    main()
