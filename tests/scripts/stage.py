"""A process that has imported torch once, with one thread, and forks: each fork becomes a script, watched or not.

    python -m tests.scripts.stage

The process of the tests itself is no place to fork from: other tests have used OpenMP's threads in it, which do not
come along, and a fork that needs them waits for ever. A line of JSON on standard input a script, an exit code back.
"""

import atexit
import json
import os
import runpy
import sys
import traceback
import warnings
from pathlib import Path

import torch

from houndsight.scripts import afterwards, armed, session  # noqa: F401 - imported once, for all forks


def main() -> None:
    """Fork for every line until there are no more."""
    torch.optim.SGD([torch.zeros(1)], 0.1)  # imports 5 s of torch
    for line in sys.stdin:
        script, variables, output, before, watched = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(Path(script), variables, Path(output), before, watched=watched)
        _, ended = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(ended), flush=True)


def _become(script: Path, variables: dict[str, str], output: Path, before: str, *, watched: bool) -> None:
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = os.fdopen(0)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        sys.excepthook = sys.__excepthook__
        atexit._clear()
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        os.environ.update(variables)
        os.chdir(script.parent)
        sys.argv = [str(script)]
        if watched:
            armed.arm(variables["HOUNDSIGHT_HOOK"])
        exec(before, {})
        code = _run(script)
    except BaseException:  # noqa: BLE001 - a fork does not go on as the stage
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


def _run(script: Path) -> int:
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        return leaving.code if isinstance(leaving.code, int) else 1
    except Exception as error:  # noqa: BLE001 - shown as Python shows it
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != str(script):
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return 1
    return 0


if __name__ == "__main__":
    main()
