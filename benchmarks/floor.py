"""Seconds to the floor of a folder of images: `houndsight train --recipe linear` from an empty cache, and again.

    python -m benchmarks.floor [--rounds 3] [--json]

Whole commands, from the start of Python to the end of the process, report and artifact included; each round has a
workspace of its own: `clean` fills its caches, `again` starts a new Python that reads them, `warm` is forked from the
warm process. Dogs pack and MobileNetV2 of $HOUNDSIGHT_TEST_ASSETS or of the folder `shared` beside the checkout where
they are there, else digits and an untrained SqueezeNet.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.warm import data_and_network, warm_processes
from houndsight.backends.local import LocalBackend
from houndsight.backends.pool import COLD
from houndsight.contract.environment import at_start

REACH = {"clean": 25.0, "again": 5.0, "warm": 5.0}


def job(place: Path, settings: dict[str, Any], *, cold: bool) -> float:
    """Seconds of the command."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items() if name != "data"]
    program = str(Path(sys.executable).with_name("houndsight"))
    command = [program, "train", settings["data"], "--recipe", "linear", *flags]
    environment = os.environ | {"HOUNDSIGHT_HOME": str(place), COLD: str(int(cold))}
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - began


def one_round() -> dict[str, float]:
    """Seconds of each kind, in a workspace of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        settings = data_and_network(place)
        found = {"clean": job(place, settings, cold=True), "again": job(place, settings, cold=True)}
        os.environ[COLD] = "0"
        try:
            if LocalBackend(of_script=at_start).warm_up(place, {"kind": "classifier"}):
                found["warm"] = job(place, settings, cold=False)
        finally:
            for each in warm_processes(place):
                each.terminate()
        return found


def main() -> None:
    """Print medians and all values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    rounds = [one_round() for _ in range(given.rounds)]
    found = {kind: [each[kind] for each in rounds if kind in each] for kind in REACH}
    if given.json:
        print(json.dumps({"seconds": found, "load": load}))
        return
    for kind, seconds in found.items():
        if seconds:
            listed = ", ".join(f"{each:.1f}" for each in seconds)
            print(f"  {kind}: {median(seconds):.1f} s, reach {REACH[kind]:g} s ({listed}; load {load:.1f})")


if __name__ == "__main__":
    main()
