"""`python -m benchmarks [NAME...]`: run the named benchmarks, or all, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(
    [path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_")]
    + [path.parent.name for path in HERE.glob("*/__main__.py")]
)


def main(chosen: list[str]) -> None:
    unknown = [name for name in chosen if name not in NAMES]
    if unknown:
        sys.exit(f"There is no benchmark {', '.join(unknown)}; choose from {', '.join(NAMES)}.")
    for name in chosen or NAMES:
        print(f"\n{name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
