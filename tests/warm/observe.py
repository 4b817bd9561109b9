"""Everything that a script can see of the process it runs in, as one JSON document; it mentions torch to be forked."""

# ruff: noqa: PTH109, PTH115
# mypy: ignore-errors

import json
import locale
import multiprocessing
import os
import pickle
import random
import resource
import signal
import sys
import threading


class Thing:
    """Pickled by its name in __main__, and unpickled by workers."""

    def __init__(self, value):
        self.value = value


def double(thing):
    return Thing(2 * thing.value)


def lines(path, *names):
    with open(path) as file:
        return [line.strip() for line in file if line.startswith(names)]


def status():
    """Lines of /proc/self/status; signals 32 and 33 are the C library's own and caught once there was a thread."""
    found = lines(
        "/proc/self/status", "SigBlk", "SigIgn", "SigCgt", "Umask", "Threads", "NoNewPrivs", "Cpus_allowed:", "Cap"
    )
    return [
        f"SigCgt:\t{int(line.split()[1], 16) & ~(3 << 31):016x}" if line.startswith("SigCgt") else line
        for line in found
    ]


def workers(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        return [each.value for each in pool.map(double, [Thing(2), Thing(3)])]


def facts():
    main = sys.modules["__main__"]
    me = os.getpid()
    return {
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "flags": str(sys.flags),
        "path": sys.path,
        "executable": sys.executable,
        "warnoptions": sys.warnoptions,
        "encoding": [
            sys.stdout.encoding,
            sys.stderr.errors,
            locale.getpreferredencoding(),
            sys.getfilesystemencoding(),
        ],
        "buffering": [sys.stdout.line_buffering, sys.stdout.write_through, sys.stdout.isatty()],
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "proc_environ": sorted(open("/proc/self/environ").read().split("\0")),
        "cmdline": open("/proc/self/cmdline").read().split("\0"),
        "comm": open("/proc/self/comm").read(),
        "fds": sorted(os.listdir("/proc/self/fd")),
        "stdin": [os.readlink("/proc/self/fd/0"), sys.stdin.read()],
        "streams": [os.readlink(f"/proc/self/fd/{number}").partition(":")[0] for number in (1, 2)],
        "signals": {each.name: str(signal.getsignal(each)) for each in signal.Signals},
        "wakeup": signal.set_wakeup_fd(-1),
        "status": status(),
        "limits": [resource.getrlimit(each) for each in range(10)],
        "nice": os.nice(0),
        "leads its group": os.getpgid(0) == me,
        "is in its parent's session": os.getsid(0) == os.getsid(os.getppid()),
        "leads no session": os.getsid(0) != me,
        "parent": lines(f"/proc/{os.getppid()}/status", "Name"),
        "parent's words": open(f"/proc/{os.getppid()}/cmdline").read().split("\0")[:5],
        "main": {
            name: str(getattr(main, name)) for name in ("__name__", "__file__", "__spec__", "__package__", "__doc__")
        },
        "names": sorted(name for name in vars(main) if name.startswith("__")),
        "loader": type(main.__loader__).__name__,
        "thread": [threading.current_thread().name, threading.current_thread() is threading.main_thread()],
        "pickle": pickle.dumps(Thing(1)).hex(),
        "process": [
            multiprocessing.current_process().name,
            multiprocessing.parent_process(),
            multiprocessing.get_start_method(),
        ],
        "recursion": sys.getrecursionlimit(),
        "excepthook": sys.excepthook is sys.__excepthook__,
    }


if __name__ == "__main__":
    found = facts()
    found["workers"] = {method: workers(method) for method in ("fork", "spawn", "forkserver")}
    print("FACTS " + json.dumps(found, default=str))
    drawn = {
        "random": random.random(),
        "authkey": bytes(multiprocessing.current_process().authkey).hex(),
        "warm": "houndsight.warm" in sys.modules,
        "ppid": os.getppid(),
    }
    print("DRAWN " + json.dumps(drawn))
