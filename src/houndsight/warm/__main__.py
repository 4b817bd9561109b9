"""Entry of a warm process: `python -m houndsight.warm <workspace> <name> <lock> <beside> <idle seconds>`."""

import sys
from pathlib import Path

from houndsight.backends.pool import WARM_UP_SECONDS
from houndsight.backends.process import await_end


def main() -> None:
    """Wait until the job that this was started beside has ended, then warm up and serve; a fork comes back here."""
    workspace, name, _lock, beside, idle = sys.argv[1:]
    if beside != "0":
        await_end(int(beside), WARM_UP_SECONDS)
    from houndsight.warm import pool  # imports what a job imports
    from houndsight.warm.family import Become

    life = pool.serve(Path(workspace), name, float(idle))
    while life is not None:
        try:
            life = life()
        except Become as other:
            life = other.life


if __name__ == "__main__":
    main()
