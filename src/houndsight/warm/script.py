"""A process that waits, warm, beside a script job's worker and becomes its script, as `python script.py` runs it."""

import builtins
import io
import json
import os
import re
import signal
import socket
import sys
import types
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from houndsight.backends import pool
from houndsight.backends.leave import leave
from houndsight.scripts import armed, hub
from houndsight.scripts.ready import START
from houndsight.scripts.settings import VARIABLE
from houndsight.warm import fresh

Life = Callable[[], Any]
"""What a fork does from now on; gives the next one, or None."""

_OURS = str(Path(__file__).parent)
_START = str(START)
_TORCH = re.compile(r"torch|timm|fastai|lightning|transformers|ultralytics")
_SETS = re.compile(
    r"""["'](?:(?:OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|NUMEXPR|VECLIB|DNNL|ONEDNN|ATEN|NPY|TORCH|PYTORCH|MALLOC|LD)_[A-Z_]+"""
    r"""|TORCH[A-Z]+_[A-Z_]+|TZ|PYTHON[A-Z]+)["']"""
)
"""Names of variables that are read at the import of what is imported already: a script that sets one starts cold."""
_MOST_FILES = 500


def script(line: socket.socket, born: dict[str, str]) -> None:
    """The life of a script; the line closed before its command came is the end.

    Answers `y` and runs it, or `n` and ends where it would not find what it finds in a cold start.
    """
    received = pool.receive(line)
    if received is None:
        os._exit(0)
    command, folder, variables = json.loads(received[0])
    output = received[1][0]
    os.chdir(folder)
    if not _may(command, variables, born):
        line.sendall(b"n")
        os._exit(0)
    os.setpgid(0, 0)
    fresh.let_go({output, line.fileno()})
    fresh.null_input()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    fresh.begin(command, variables, folder)
    line.sendall(b"y")
    line.close()
    _run(command, variables, born)


def _may(command: list[str], variables: dict[str, str], born: dict[str, str]) -> bool:
    """Whether the script finds here what it would find in a process of its own."""
    ours, its = dict(born), pool.read_at_start(variables)
    ours.pop("PYTHONPATH", None)
    its.pop("PYTHONPATH", None)
    if command[0] != sys.executable or command[1] not in ("--", "-m") or its != ours:
        return False
    text = "".join(_texts(Path()))
    return bool(_TORCH.search(text)) and not _SETS.search(text) and not _hidden(command, variables)


def _texts(folder: Path) -> Iterator[str]:
    for count, file in enumerate(folder.rglob("*.py")):
        if count == _MOST_FILES:
            return
        yield file.read_text(encoding="utf-8", errors="replace")


def _hidden(command: list[str], variables: dict[str, str]) -> set[str]:
    """Modules of the script's own that would stand before those that are imported already."""
    paths = [_first(command), *variables.get("PYTHONPATH", "").split(os.pathsep)]
    places = [Path(each) for each in paths if each and each != _START and Path(each).is_dir()]
    names = {"sitecustomize", "usercustomize"} | {name.partition(".")[0] for name in sys.modules}
    found = {each.name.partition(".")[0] for place in places for each in place.iterdir() if _module(each)}
    return found & (names - {"__main__", "houndsight"})


def _module(path: Path) -> bool:
    return path.suffix in (".py", ".so", ".pyc") or (path / "__init__.py").is_file()


def _first(command: list[str]) -> str:
    """The first place on the import path: the script's folder, for a module the working directory."""
    return str(Path(command[2]).resolve().parent) if command[1] == "--" else str(Path().absolute())


def _run(command: list[str], variables: dict[str, str], born: dict[str, str]) -> None:
    """Run it as `__main__`; what it raises is shown as Python shows it, without our own frames."""
    before = set(born.get("PYTHONPATH", "").split(os.pathsep))
    paths = [each for each in variables.get("PYTHONPATH", "").split(os.pathsep) if each and each != _START]
    if "PYTHONPATH" in variables:
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # as what stands in that folder leaves it
    sys.path[:] = [_first(command), *paths, *(each for each in sys.path[1:] if each not in before)]
    sys.path_importer_cache.clear()
    sys.argv[:] = command[2:]
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:  # the name under which spawned workers send its objects
        sys.modules["__mp_main__"] = main
    hub.install()
    if VARIABLE in variables:
        armed.arm(variables[VARIABLE])
    leave(_code_of(lambda: _execute(command, main)), main)


def _execute(command: list[str], main: types.ModuleType) -> None:
    if command[1] == "-m":
        import runpy

        as_main: Any = runpy
        as_main._run_module_as_main(command[2])
        return
    path = str(Path(command[2]).absolute())
    main.__dict__.update(__file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path))
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, main.__dict__)  # noqa: S102 - what `python script.py` does


def _code_of(run: Callable[[], None]) -> int:
    """The exit code; what was raised is shown as Python shows it, without our own frames."""
    try:
        run()
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return int(leaving.code or 0) & 0xFF
        sys.stderr.write(f"{leaving.code}\n")
    except BaseException as error:  # noqa: BLE001 - shown, and the process ends by it
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
            trace = trace.tb_next
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    else:
        return 0
    return 1
