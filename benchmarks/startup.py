"""How long the command line and the package take to start, above a bare interpreter."""

import subprocess
import sys
import time
from statistics import median

ROUNDS = 15
PROGRAMS = {
    "bare interpreter": "pass",
    "import houndsight": "import houndsight",
    "houndsight --help": "from houndsight.cli.app import run; run(['--help'])",
}
REACH = {"import houndsight": 0.15, "houndsight --help": 0.3}


def main() -> None:
    """Print the median start of each program and what it takes above the bare interpreter."""
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(ROUNDS):
        for name, code in PROGRAMS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - began)
    bare = median(seconds["bare interpreter"])
    for name, taken in seconds.items():
        above = median(taken) - bare
        reach = f", reach {REACH[name]} s" if name in REACH else ""
        print(f"  {name}: {median(taken):.3f} s, {above:.3f} s above{reach} (n = {ROUNDS})")


if __name__ == "__main__":
    main()
