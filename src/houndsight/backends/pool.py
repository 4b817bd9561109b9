"""Asks a warm process for a job's monitor: one that has PyTorch imported and forks; between `local` and `warm`.

<workspace>/cache/warm/<kind>-<key>.sock   where a warm process listens; one a kind and a way to start
<workspace>/cache/warm/<kind>-<key>.lock   held by it from its birth to its end
<workspace>/cache/warm/<kind>-<key>.log    what it said

The key is everything that a process started here would get from its parent or read when it starts and that cannot be
given to it afterwards: environment, limits, control group, name spaces, the code and the packages. Who finds no
process of the same key starts cold, so a job from the pool is what it would have been without it.
"""

import array
import fcntl
import hashlib
import json
import os
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Kind = Literal["classifier", "script"]

COLD = "HOUNDSIGHT_COLD"
"""Set to 1: nothing is started warm, and no warm process is started."""
IDLE_SECONDS = 900.0
"""A warm process that nobody asks anything for so long ends."""
ANSWER_SECONDS = 2.0
"""Longest wait for a warm process's answer (it takes 20 ms): then the job starts cold."""
WARM_UP_SECONDS = 60.0
"""A warm process imports when the job that it was started beside has ended, or after so long."""
MOST = 4
"""Warm processes a workspace; each holds 0.4 GB of memory that its jobs share."""
LEAST_MEMORY = 2 << 30
"""Bytes that must be available for one to be started."""

_NOT_READ = frozenset(
    {
        *(
            "PWD",
            "OLDPWD",
            "SHLVL",
            "_",
            "TERM",
            "COLORTERM",
            "COLUMNS",
            "LINES",
            "WINDOWID",
            "TMUX",
            "TMUX_PANE",
            "STY",
        ),
        *("DISPLAY", "TMPDIR", "TMP", "TEMP", "HOUNDSIGHT_HOME", "HOUNDSIGHT_LOCK", COLD, "CURRENT_HOST"),
        *("HOUNDSIGHT_HUB", "HOUNDSIGHT_TRUST_PICKLE", "HOUNDSIGHT_HOOK", "HOUNDSIGHT_WATCHED"),
        *("MASTER_ADDR", "MASTER_PORT", "NCCL_SOCKET_IFNAME", "NCCL_IB_DISABLE", "NCCL_DEBUG"),
    }
)
_NOT_READ_PREFIXES = (
    *("SM_", "SAGEMAKER_", "TRAINING_JOB_", "AWS_", "SSH_", "TERM_", "VSCODE_", "PYTEST_", "DBUS_", "XDG_SESSION_"),
    *("LC_TERMINAL", "GPG_", "ITERM_", "WT_", "KITTY_", "HOUNDSIGHT_TEST_"),
)
"""Variables that neither Python, the C library nor a package reads when it starts: a fork gets its own."""
_INHERITED = ("Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:", "Cpus_allowed:", "SigIgn:", "Umask:")
_HEADER = struct.Struct("<Q")


@dataclass(frozen=True)
class Seed:
    """How a warm process for a job is started, or recognised."""

    kind: Kind
    python: tuple[str, ...]
    """Interpreter and flags, as the job's process would be started with."""
    environment: dict[str, str]
    """Variables that the job's process would be started with, as far as they are known before."""

    @property
    def name(self) -> str:
        """Kind and key: what its files are called."""
        parts = [self.python, read_at_start(self.environment), _inherited(), code()]
        return f"{self.kind}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Request:
    """What a warm process is asked to fork: a monitor, which then gets its orders as the cold one does."""

    title: list[str]
    """The arguments that it carries."""
    folder: str
    """Its working directory."""
    environment: dict[str, str]
    """All of its variables."""


def usable(environment: Mapping[str, str]) -> bool:
    """Whether machine and user allow warm starts: Linux only, for macOS's own libraries do not survive a fork."""
    return sys.platform == "linux" and environment.get(COLD, "") in ("", "0")


def folder_of(workspace: Path) -> Path:
    """Where the warm processes of a workspace have their files."""
    return workspace / "cache" / "warm"


def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that something may read when it starts or is imported."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _NOT_READ and not name.startswith(_NOT_READ_PREFIXES)
    }


def fork(workspace: Path, seed: Seed, request: Request, files: Sequence[int]) -> tuple[int, socket.socket] | None:
    """Ask for a monitor whose output and lock are `files`; gives its number and the line on which its orders go.

    None where no warm process of this kind answers.
    """
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(ANSWER_SECONDS)
    try:
        with at(folder_of(workspace) / f"{seed.name}.sock") as place:
            line.connect(place)
        if peer(line)[1] == os.getuid():
            send(line, json.dumps([request.title, request.folder, request.environment]).encode(), files)
            answer = line.recv(32)
            if answer.endswith(b"\n"):
                line.settimeout(None)
                return int(answer), line
    except OSError:  # none is there, or it ends just now
        pass
    line.close()
    return None


def start(
    workspace: Path, seed: Seed, beside: int | None, idle: float = IDLE_SECONDS
) -> "subprocess.Popen[bytes] | None":
    """Start a warm process of this kind unless there is one already, or too many, or too little memory.

    It warms up when the process `beside` has ended, or at once where there is none.
    """
    import psutil

    if psutil.virtual_memory().available < LEAST_MEMORY:
        return None
    with ExitStack() as files, suppress(OSError):  # no room, no process, or another holds the lock: jobs start cold
        folder, name = folder_of(workspace), seed.name
        folder.mkdir(parents=True, exist_ok=True)
        if _others(folder, name) >= MOST:
            return None
        lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        files.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        files.callback(os.close, log)
        return subprocess.Popen(
            [*seed.python, "-m", "houndsight.warm", str(workspace), name, str(lock), str(beside or 0), f"{idle:g}"],
            cwd=folder,
            env=seed.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock,),
        )
    return None


def answers(workspace: Path, seed: Seed) -> bool:
    """Whether a warm process of this kind is warm."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        try:
            with at(folder_of(workspace) / f"{seed.name}.sock") as place:
                line.connect(place)
        except OSError:
            return False
    return True


def lives(workspace: Path, seed: Seed) -> bool:
    """Whether a warm process of this kind lives, warm or warming up."""
    return _lives(folder_of(workspace) / f"{seed.name}.lock")


def _others(folder: Path, name: str) -> int:
    """How many live beside the one of that name; the files of those that have ended are removed."""
    living = 0
    for lock in folder.glob("*.lock"):
        if lock.stem == name:
            continue
        if _lives(lock):
            living += 1
        else:
            for each in (lock, lock.with_suffix(".sock"), lock.with_suffix(".log")):
                each.unlink(missing_ok=True)
    return living


def _lives(lock: Path) -> bool:
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def at(path: Path) -> Iterator[str]:
    """An address of a socket that is short enough (108 bytes) however deep its folder lies."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def peer(line: socket.socket) -> tuple[int, int]:
    """Process and user at the other end of the line, as the kernel knows them."""
    found = struct.unpack("iII", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    return found[0], found[1]


def send(line: socket.socket, message: bytes, files: Sequence[int] = ()) -> None:
    """Send one message and open files with it."""
    given = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    line.sendmsg([_HEADER.pack(len(message))], given)
    line.sendall(message)


def receive(line: socket.socket) -> tuple[bytes, list[int]] | None:
    """Receive one message and the open files that came with it; None where the line was closed before."""
    header, files, _, _ = socket.recv_fds(line, _HEADER.size, 8)
    while 0 < len(header) < _HEADER.size and (more := line.recv(_HEADER.size - len(header))):
        header += more
    if len(header) < _HEADER.size:
        return None
    left, parts = _HEADER.unpack(header)[0], []
    while left and (part := line.recv(min(left, 1 << 16))):
        parts.append(part)
        left -= len(part)
    return None if left else (b"".join(parts), list(files))


def _inherited() -> list[object]:
    """What a child gets from this process beside its variables and its working directory."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}
    spaces = {}
    for each in sorted(os.listdir("/proc/self/ns")):
        with suppress(OSError):
            spaces[each] = str(Path("/proc/self/ns", each).readlink())
    return [
        [line for line in status if line.startswith(_INHERITED)],
        limits,
        spaces,
        os.nice(0),
        os.sched_getscheduler(0),
        Path("/proc/self/cgroup").read_text(encoding="utf-8"),
        Path("/proc/self/oom_score_adj").read_text(encoding="ascii"),
        str(Path("/proc/self/root").readlink()),
    ]


def code() -> str:
    """Changes with any file of this package and with whatever is installed."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(_package().rglob("*.py")):
        found = path.stat()
        digest.update(f"{path} {found.st_mtime_ns} {found.st_size}\n".encode())
    for place in (each for each in sys.path if "site-packages" in each):
        with suppress(OSError):
            digest.update(f"{place} {Path(place).stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


@cache
def _package() -> Path:
    return Path(__file__).resolve().parents[1]
