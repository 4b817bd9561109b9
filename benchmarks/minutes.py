"""Minutes and CPU-minutes to 94 % of the validation images of the dogs pack: our recipes and fastai's `fine_tune`.

    python -m benchmarks.minutes [--recipes linear lp-ft] [--epochs 2] [--json]

All start from the same MobileNetV2 weights, as people start them: process start, import, decoding, an empty cache. Ours
counts until the job is complete, with its evaluation on validation and test, its artifact and its page; fastai counts
to the end of the epoch that reaches 94 %. $HOUNDSIGHT_PEERS_PYTHON names a Python with fastai.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from houndsight.backends.local import FAST

HERE = Path(__file__).parent
WEIGHTS = "weights/mobilenet_v2-imagenet-dequantized.pth"
GOAL = 0.94

OURS = """
import json, sys, houndsight
job = houndsight.train(sys.argv[1], backend="inline", backbone="mobilenet_v2", weights=sys.argv[2], recipe=sys.argv[3])
print(json.dumps({"accuracy": job.metrics["valid"]["top1"].value}))
"""


def ours(assets: Path, recipe: str) -> dict[str, Any]:
    """One job from an empty workspace."""
    with tempfile.TemporaryDirectory() as runs:
        environment = os.environ | FAST | {"HOUNDSIGHT_HOME": runs}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-c", OURS, str(assets / "data/dogs"), str(assets / WEIGHTS), recipe]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    reached = json.loads(done.stdout.splitlines()[-1])["accuracy"]
    return {"accuracy": reached, "seconds": seconds, "cpu": cpu, "reached": reached >= GOAL}


def fastai(assets: Path, epochs: int) -> dict[str, Any]:
    """The first epoch that reaches the goal, else the last one."""
    python = os.environ["HOUNDSIGHT_PEERS_PYTHON"]
    script = str(HERE / "peers" / "fastai_finetune.py")
    command = [python, "-W", "ignore", script, str(assets / "data/dogs"), str(assets / WEIGHTS), str(epochs)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seen = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    first = next((each for each in seen if each["accuracy"] >= GOAL), seen[-1])
    return {**first, "reached": first["accuracy"] >= GOAL, "best": max(each["accuracy"] for each in seen)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="*", default=["linear"])
    parser.add_argument("--epochs", type=int, default=2, help="of fastai's fine_tune, after its one with a frozen body")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    assets = Path(os.environ.get("HOUNDSIGHT_TEST_ASSETS") or HERE.parents[1] / "shared").absolute()
    if not (assets / "data/dogs").is_dir():
        sys.exit("The dogs pack is needed: set HOUNDSIGHT_TEST_ASSETS to the folder that has data/ and weights/.")
    found = {f"houndsight {recipe}": ours(assets, recipe) for recipe in given.recipes}
    if os.environ.get("HOUNDSIGHT_PEERS_PYTHON"):
        found["fastai fine_tune"] = fastai(assets, given.epochs)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for name, row in found.items():
        said = "reached" if row["reached"] else "did not reach"
        print(
            f"{name:20} {said} {GOAL:.0%}: {row['accuracy']:.2%} after {row['seconds'] / 60:.1f} min, "
            f"{row['cpu'] / 60:.1f} CPU-min"
        )


if __name__ == "__main__":
    main()
