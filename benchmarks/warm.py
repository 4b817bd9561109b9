"""What a warm start saves: time to a script's first line, cold and warm; and 20 trials on cached features as jobs.

    python -m benchmarks.warm [--rounds 5] [--trials 20] [--parallel 2] [--json]

The script imports torch and prints a line. Cold and warm jobs take turns; the time runs from `submit` to that line, and
to the end of the job. The trials are frozen-backbone classifiers of 5 epochs with a learning rate of their own, one
thread each, as a search starts them (no test split), from caches that a first one has filled: wall time of all, and
their processor time with monitor, sampler and report. Dogs pack and MobileNetV2 of $HOUNDSIGHT_TEST_ASSETS or of the
folder `shared` beside the checkout where they are there, else digits and an untrained SqueezeNet.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from houndsight.backends.local import LocalBackend
from houndsight.backends.pool import COLD
from houndsight.contract.environment import at_start
from houndsight.verbs.digits import write_digits
from houndsight.verbs.job import Job
from houndsight.verbs.run import run
from houndsight.verbs.train import train

SCRIPT = "import time, torch\nprint('first line', time.time(), flush=True)\n"
REACH_LINE, REACH_TRIALS = 0.3, 10.0


def first_lines(place: Path, rounds: int) -> dict[str, float]:
    """Median seconds from `submit` to the first line of a script and to the end of its job, cold and warm."""
    script = place / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for kind in ("cold", "warm"):
            began = time.time()
            job = run(script, workspace=place, cold=kind == "cold", wait=False)
            taken.setdefault(f"{kind}: submitted", []).append(time.time() - began)
            job.wait()
            taken.setdefault(f"{kind}: ended", []).append(time.time() - began)
            line = next(each for each in job.logs().splitlines() if each.startswith("first line"))
            taken.setdefault(f"{kind}: first line", []).append(float(line.split()[-1]) - began)
    return {name: median(values) for name, values in taken.items()}


def trials(place: Path, number: int, parallel: int) -> dict[str, float]:
    """Wall and processor seconds of `number` trials, `parallel` at a time."""
    settings: dict[str, Any] = {
        **data_and_network(place),
        "freeze": "all",
        "augment": "none",
        "optimizer": "adam",
        "epochs": 5,
        "batch_size": 64,
        "threads": 1,
        "evaluate_test": False,
        "workspace": place,
    }

    def trial(each: int) -> Job:
        return train(lr=1e-3 * (1 + each / number), **settings)

    trial(0)  # fills the caches
    [warm] = [each for each in warm_processes(place) if "classifier" in " ".join(each.cmdline())]
    began, before = time.perf_counter(), spent(warm)
    with ThreadPoolExecutor(parallel) as starters:
        jobs = list(starters.map(trial, range(1, number + 1)))
    wall = time.perf_counter() - began
    while warm.children():  # monitors that are just ending
        time.sleep(0.01)
    assert all(job.state == "COMPLETED" for job in jobs)
    return {"seconds": wall, "cpu": spent(warm) - before, "cpu a trial": (spent(warm) - before) / number}


def data_and_network(place: Path) -> dict[str, Any]:
    """The dogs pack with MobileNetV2, else what is at hand everywhere."""
    assets = Path(os.environ.get("HOUNDSIGHT_TEST_ASSETS") or Path(__file__).parents[2] / "shared").absolute()
    weights = assets / "weights/mobilenet_v2-imagenet-dequantized.pth"
    if weights.is_file():
        return {"data": str(assets / "data/dogs"), "backbone": "mobilenet_v2", "weights": str(weights)}
    write_digits(place / "digits")
    return {"data": str(place / "digits"), "backbone": "squeezenet1_1", "weights": "none", "image_size": 32}


def spent(process: psutil.Process) -> float:
    """Processor seconds of every ended job of a warm process, and its own."""
    return float(sum(process.cpu_times()[:4]))


def warm_processes(place: Path) -> list[psutil.Process]:
    """The warm processes of a workspace."""
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if {"houndsight.warm", str(place)} <= set(each.info["cmdline"] or [])]


@contextmanager
def warmed() -> Iterator[Path]:
    """A workspace with a warm process of each kind; both are gone afterwards."""
    os.environ[COLD] = "0"
    with tempfile.TemporaryDirectory() as folder:
        place, backend = Path(folder), LocalBackend(of_script=at_start)
        try:
            for kind in ("script", "classifier"):
                began = time.perf_counter()
                if not backend.warm_up(place, {"kind": kind}):
                    sys.exit(f"No warm process for {kind} jobs here.")
                print(f"  a warm process for {kind} jobs after {time.perf_counter() - began:.1f} s", file=sys.stderr)
            yield place
        finally:
            for each in warm_processes(place):
                each.terminate()


def main() -> None:
    """Print both measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with warmed() as place:
        lines = first_lines(place, given.rounds)
        cost = trials(place, given.trials, given.parallel)
    if given.json:
        print(json.dumps({"first lines": lines, "trials": cost, "load": load}))
        return
    for name, seconds in lines.items():
        reach = f", reach {REACH_LINE} s" if name == "warm: first line" else ""
        print(f"  {name}: {seconds:.2f} s{reach} (n = {given.rounds})")
    print(
        f"  {given.trials} trials, {given.parallel} at a time: {cost['seconds']:.1f} s, reach {REACH_TRIALS:g} s; "
        f"{cost['cpu a trial']:.2f} CPU-s each (load {load:.1f})"
    )


if __name__ == "__main__":
    main()
