"""What runs a tuning, as `worker` runs a job: the search, then its page.

python -m houndsight.controller <tuning folder>
"""

import logging
import sys
from pathlib import Path
from typing import Literal

from houndsight.backends.base import Backend, Stop, execute
from houndsight.backends.local import LocalBackend
from houndsight.contract.environment import at_start
from houndsight.folders import JobFolder, TuningFolder
from houndsight.tuning.controlled import Controlled
from houndsight.tuning.spec import TuningSpec
from houndsight.tuning.tuner import Tuner
from houndsight.workspace import Workspace

log = logging.getLogger("houndsight")

WORTH_WARMING = 3
"""Trials from which on waiting for a warm process (8 s) is shorter than starting each cold."""


def run_tuning(controlled: JobFolder, stop: Stop, backend: Backend) -> Literal["COMPLETED", "STOPPED"]:
    """Search until the limits are reached or `stop` says so; trials run with `backend`."""
    folder = TuningFolder(controlled.path)
    place = Workspace(folder.path.parent.parent)
    try:
        return Tuner(folder, place, backend, stop).run()
    finally:
        from houndsight.reports import tuning  # the templates take 0.2 s to import

        tuning.build(folder, place)


def main() -> None:
    """Run the tuning whose folder is the one argument; everything said goes to standard output, which is its log."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    controlled = Controlled(Path(sys.argv[1]))
    spec = TuningSpec.read(controlled.spec)
    backend = LocalBackend(of_script=at_start, cold=spec.cold)

    def run(job: JobFolder, stop: Stop) -> Literal["COMPLETED", "STOPPED"]:
        if spec.jobs >= WORTH_WARMING:
            backend.warm_up(controlled.path.parent.parent, spec.job, stop)
        return run_tuning(job, stop, backend)

    status = execute(controlled, run, "local")
    sys.exit(status.exit_code)


if __name__ == "__main__":
    main()
