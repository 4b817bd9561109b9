"""The check in a process of its own, for a worker that imports PyTorch meanwhile; `check` does the work.

python -m houndsight.data.check_beside <index.json> <cache> <threads>

In one interpreter the two take turns: together they get one core of two, and take 7 s where two processes take 4.
"""

import subprocess
import sys
from pathlib import Path

from houndsight.data import check
from houndsight.data.cache import cores
from houndsight.spec import Finding, Index
from houndsight.workspace import Progress


def check_beside(
    index: Index, file: Path, cache: Path, *, workers: int | None = None, progress: Progress
) -> list[Finding]:
    """As `check.check`; `file` holds `index`. No process is started where the result is kept."""
    found = check.kept(index, cache)
    if found is not None:
        return found
    arguments = [str(file), str(cache), str(workers or cores())]
    command = [sys.executable, "-P", "-m", "houndsight.data.check_beside", *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None, "a pipe was asked for"
        try:
            for line in child.stdout:
                done, total = line.split()
                progress("check", int(done), int(total))
        except BaseException:
            child.kill()
            raise
    return check.check(index, workers=workers, progress=progress, cache=cache)  # all of it again where that failed


def main() -> None:
    """Check, and leave the result in the cache; each step of the progress is a line on standard output."""
    file, cache, workers = sys.argv[1:]
    index = Index.read(Path(file))

    def tell(_: str, done: int, total: int) -> None:
        sys.stdout.write(f"{done} {total}\n")
        sys.stdout.flush()

    check.check(index, workers=int(workers), progress=tell, cache=Path(cache))


if __name__ == "__main__":
    main()
