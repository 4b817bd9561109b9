"""What a fork of the warm process becomes: a job's monitor, then the job's process, then the script."""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from houndsight.backends import pool
from houndsight.backends.leave import leave
from houndsight.backends.local import HELD_BACK
from houndsight.backends.lock import VARIABLE
from houndsight.backends.monitor import Monitor, Orders
from houndsight.contract.stub import VARIABLE as STUB
from houndsight.warm import fresh
from houndsight.warm.script import Life, script


class Become(BaseException):
    """A fork leaves its parent's stack and becomes something else; nobody else catches it."""

    def __init__(self, life: Life) -> None:
        super().__init__()
        self.life = life


def monitor(line: socket.socket, born: dict[str, str]) -> None:
    """The life of a monitor: what it is comes on the line, then its orders; the line closed before is the end."""
    line.settimeout(None)
    received = pool.receive(line)
    if received is None:
        os._exit(0)
    title, folder, variables = json.loads(received[0])
    log, lock = received[1]
    os.setsid()
    fresh.let_go({line.fileno(), log, lock})
    fresh.begin(title, variables, folder)
    fresh.null_input()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    line.sendall(b"%d\n" % os.getpid())
    given = b"".join(iter(partial(line.recv, 1 << 16), b""))
    line.close()
    if given:
        orders = replace(Orders(**json.loads(given)), lock=lock)
        Monitor(orders, partial(_fork_job, born)).run()
    leave(0)


def _fork_job(born: dict[str, str], orders: Orders, ready: Callable[[], None]) -> int:
    """Fork the job's process in a group of its own; `ready` is called in it first."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*HELD_BACK, signal.SIGCHLD))
    child = os.fork()
    if child == 0:
        raise Become(partial(_job, born, orders, ready))
    os.setpgid(child, child)  # here and there: whoever is first
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return child


def _job(born: dict[str, str], orders: Orders, ready: Callable[[], None]) -> None:
    """The life of a job's process, as `python -m houndsight.worker <job folder>`."""
    ready()
    os.setpgid(0, 0)
    fresh.let_go({orders.lock})
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    variables = {**os.environ, **orders.environment, VARIABLE: str(orders.lock)}
    child = 0
    if "houndsight.contract.script" in sys.modules:
        waiting, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            waiting.close()
            raise Become(partial(script, theirs, born))
        theirs.close()
        variables[STUB] = f"{waiting.detach()}:{child}"
    fresh.begin(orders.command, variables, str(Path.cwd()))
    from houndsight import worker

    sys.argv[:] = [worker.__file__, *orders.command[-1:]]
    code = worker.work()
    if child and STUB in os.environ:  # the script never began
        os.close(int(variables[STUB].partition(":")[0]))
        os.waitpid(child, 0)
    leave(code)
