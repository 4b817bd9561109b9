"""A process that has imported what jobs import, and forks one on request; above `worker`, asked by `backends.pool`.

It runs nothing itself and starts no thread, so a fork of it is whole. The fork becomes a job's monitor, which forks
the job's process, which (for a script) forks the script: the same family as from a cold start. When this process ends
or is killed, the families go on.
"""

import gc
import os
import pkgutil
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from houndsight.backends import pool
from houndsight.backends.local import HELD_BACK
from houndsight.reports import html
from houndsight.warm import fresh, title
from houndsight.warm.family import monitor
from houndsight.warm.script import Life

LIBRARIES: dict[str, tuple[str, ...]] = {
    "script": (
        # The first optimizer imports torch._dynamo, 4 s of a core.
        *("torch", "torchvision.models", "numpy.ma", "torch._dynamo"),
        *("houndsight.scripts.session", "houndsight.scripts.afterwards", "houndsight.watch.profiler"),
    ),
    "classifier": (
        *("torch", "torchvision.models", "torchvision.transforms.v2", "torch.utils.flop_counter", "safetensors.torch"),
        *("scipy.optimize", "threadpoolctl"),
    ),
}
UNITS: dict[str, tuple[str, ...]] = {
    "script": ("contract", "records", "reports"),
    "classifier": ("data", "features", "models", "records", "reports", "training", "watch"),
}
"""What each kind of job imports sooner or later, of other houses and of this one; nothing of it may start a thread that
lives on in the parent."""
LOOK_SECONDS = 30.0
"""How often it looks whether it is still of use."""


def serve(workspace: Path, name: str, idle: float) -> Life | None:
    """Warm up, then fork for each request until nobody has asked for `idle` seconds; a fork returns what it is to be.

    Ends early where a fork would not be whole: where a thread runs, or where the kernel cannot show a fork's name;
    and where the code has changed.
    """
    began, stamp = time.monotonic(), pool.code()
    born = pool.read_at_start(os.environ)
    _warm_up(name.partition("-")[0])
    gc.collect()
    gc.freeze()  # a collection in a fork touches, and so copies, none of what is shared
    _prove_whole()
    place = pool.folder_of(workspace) / f"{name}.sock"
    with _listen(place) as listener:
        inode = place.stat().st_ino
        _say(f"process {os.getpid()} is warm after {time.monotonic() - began:.1f} s")
        line = _asked(listener, idle, lambda: pool.code() == stamp and _inode(place) == inode)
        if line is None and _inode(place) == inode:
            place.unlink(missing_ok=True)
    return None if line is None else partial(monitor, line, born)


def _warm_up(kind: str) -> None:
    for library in LIBRARIES[kind]:
        import_module(library)
    for module in pkgutil.walk_packages([str(Path(__file__).parents[1])], "houndsight."):
        if module.name.split(".")[1] in UNITS[kind] and not module.name.endswith("__main__"):
            import_module(module.name)
    import_module("houndsight.worker")
    html.read_templates()


def _prove_whole() -> None:
    """Fork once, for that ends the threads that OpenBLAS starts at import, and see that no other is left, nor CUDA."""
    child = os.fork()
    if child == 0:
        os._exit(0 if title.show(["houndsight"], {}) else 1)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("the kernel cannot show a fork under a name of its own")
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        sys.exit("CUDA was initialised at import, and does not survive a fork")
    if fresh.threads() > 1:
        sys.exit(f"{fresh.threads() - 1} threads run after the imports, and would be missing in a fork")


def _listen(place: Path) -> socket.socket:
    place.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    before = os.umask(0o177)
    try:
        with pool.at(place) as address:
            listener.bind(address)
    finally:
        os.umask(before)
    listener.listen(16)
    return listener


def _asked(listener: socket.socket, idle: float, of_use: Callable[[], bool]) -> socket.socket | None:
    """Fork for every request of this user; in a fork, give its line. None in this process, when it is time to end."""
    awake = _wake_on_signals()
    last = time.monotonic()
    while True:
        ready = select.select([listener.fileno(), awake], [], [], min(LOOK_SECONDS, idle))[0]
        if awake in ready and not _reap(os.read(awake, 4096)):
            return None
        if listener.fileno() in ready:
            last = time.monotonic()
            try:
                line, _ = listener.accept()
            except OSError:  # who asked has gone again
                continue
            if pool.peer(line)[1] == os.getuid() and _fork():
                return line
            line.close()
        elif time.monotonic() - last >= idle or not of_use():
            return None


def _fork() -> bool:
    """Fork with the signals held back that a monitor wants to hear; says whether this is the child."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        child = os.fork()
    except OSError as error:  # who asked starts cold
        _say(f"no fork: {error.strerror}")
        child = -1
    if child != 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return child == 0


def _reap(heard: bytes) -> bool:
    """Take note of forks that have ended; says whether this process goes on."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    return signal.SIGTERM not in heard


def _wake_on_signals() -> int:
    awake, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(awake, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def note(_number: int, _frame: FrameType | None) -> None:
        """The number is in the pipe already."""

    for each in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(each, note)
    return awake


def _inode(place: Path) -> int | None:
    try:
        return place.stat().st_ino
    except OSError:
        return None


def _say(sentence: str) -> None:
    sys.stderr.write(f"houndsight: {sentence}\n")
    sys.stderr.flush()
