"""Counters of a Linux machine and of one tree of processes, read from /proc as they stand; for the sampler."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from houndsight.watch.system import PSS_SECONDS

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SECTOR = 512
_FOLLOWED = 64  # processes of a tree whose CPU time is told one by one


class Linux:
    """Reads /proc; 0.2 ms a sample with two cores and forty processes."""

    def __init__(self, pid: int, thread: int) -> None:
        self._pid, self._thread, self._me = pid, thread, os.getpid()
        self._parents: dict[int, int] = {}
        self._cpu: dict[int, float] = {}
        self._gone = 0.0
        self._faults: dict[int, tuple[int, int]] = {}
        self._faults_gone = (0, 0)
        self._pss: int | None = None
        self._pss_read = float("-inf")
        self._cgroup = _cgroup(pid)
        self._disks = _whole_disks()

    def facts(self) -> dict[str, Any]:
        """Cores, cores this training may use, memory in bytes and the process that is watched."""
        memory = _memory()
        usable = float(len(os.sched_getaffinity(self._pid)))
        quota = _quota(self._cgroup)
        limit = _number(self._cgroup / "memory.max") if self._cgroup else None
        return {
            "pid": self._pid,
            "cores": len(_cores()),
            "usable": min(usable, quota) if quota else usable,
            "memory": min(memory["MemTotal"], limit) if limit else memory["MemTotal"],
            "model": _model(),
        }

    def sample(self) -> dict[str, Any] | None:
        """One sample; None where the watched process is gone."""
        tree = self._tree()
        if tree is None:
            return None
        memory, pages = _memory(), _pages()
        return {
            "t": round(time.time(), 4),
            "cpu": _cores(),
            "mem": [memory.get("MemAvailable", memory["MemFree"]), memory["SwapTotal"] - memory["SwapFree"]],
            "page": [pages.get("pgmajfault", 0), pages.get("pswpin", 0), pages.get("pswpout", 0)],
            "disk": _disks(self._disks),
            "net": _network(),
            "psi": [_pressure("cpu"), _pressure("memory"), _pressure("io")],
            "throttled": _throttled(self._cgroup),
            "tree": tree,
        }

    def _tree(self) -> dict[str, Any] | None:
        members = self._members()
        seen: dict[int, tuple[float, int, int, int]] = {}
        own: dict[int, int] = {}
        for pid in members:
            with suppress(OSError, ValueError, IndexError):
                seen[pid] = _stat(f"/proc/{pid}/stat")
                own[pid] = _anonymous(f"/proc/{pid}/statm")
        if self._pid not in seen:
            return None
        for pid in [each for each in self._cpu if each not in seen]:
            self._gone += self._cpu.pop(pid)
            minor, major = self._faults.pop(pid)
            self._faults_gone = (self._faults_gone[0] + minor, self._faults_gone[1] + major)
        for pid, (cpu, _, minor, major) in seen.items():
            self._cpu[pid], self._faults[pid] = cpu, (minor, major)
        kids = sorted((each for each in seen if each != self._pid), key=lambda pid: -self._cpu[pid])[:_FOLLOWED]
        read, written = _transferred(list(seen))
        return {
            "n": len(seen),
            "cpu": round(self._gone + sum(self._cpu.values()), 3),
            "main": self._main(),
            "rss": sum(rss for _, rss, _, _ in seen.values()),
            "anonymous": sum(own.values()),
            "pss": self._proportional(list(seen)),
            "minor": self._faults_gone[0] + sum(each[0] for each in self._faults.values()),
            "major": self._faults_gone[1] + sum(each[1] for each in self._faults.values()),
            "io": [read, written],
            "kids": [[pid, round(self._cpu[pid], 2)] for pid in sorted(kids)],
        }

    def _members(self) -> list[int]:
        """The watched process and its descendants, without this one; a parent is looked up once for each process."""
        here = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        for pid in set(self._parents).difference(here):
            del self._parents[pid]
        for pid in here:
            if pid not in self._parents:
                with suppress(OSError, ValueError, IndexError):
                    self._parents[pid] = int(_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
        found, fresh = [self._pid], {self._pid}
        while fresh:
            fresh = {pid for pid, parent in self._parents.items() if parent in fresh and pid != self._me}
            found += fresh
        return found

    def _main(self) -> list[Any]:
        """[process, seconds its main thread ran, seconds it was ready and waited for a core] of the training's thread.

        A process that only looks after another one, as that of a script does, is not the one that trains: then it is
        its busiest descendant.
        """
        pid, thread = self._pid, self._thread
        busiest = max(self._cpu, key=lambda each: self._cpu[each])
        if self._cpu[busiest] > 4 * self._cpu[pid] + 1.0:
            pid = thread = busiest
        with suppress(OSError, ValueError, IndexError):
            ran, waited, _ = _text(f"/proc/{pid}/task/{thread}/schedstat").split()
            return [pid, round(int(ran) / 1e9, 4), round(int(waited) / 1e9, 4)]
        return [pid, None, None]

    def _proportional(self, pids: list[int]) -> int | None:
        now = time.monotonic()
        if len(pids) > 1 and now - self._pss_read >= PSS_SECONDS:
            self._pss_read, total = now, 0
            for pid in pids:
                with suppress(OSError, ValueError, IndexError):
                    text = _text(f"/proc/{pid}/smaps_rollup")
                    total += 1024 * int(text.partition("Pss:")[2].split()[0])
            self._pss = total
        return self._pss if len(pids) > 1 else None


def _text(path: str) -> str:
    """A whole file of /proc: without the layers of `open` that is three times as fast."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(file, 65536)]
        while len(parts[-1]) > 0:
            parts.append(os.read(file, 65536))
        return b"".join(parts).decode(errors="replace")
    finally:
        os.close(file)


def _anonymous(path: str) -> int:
    """Resident bytes that belong to no file: mapped files grow with what is read of them, and are no leak."""
    _, resident, shared, *_ = _text(path).split()
    return (int(resident) - int(shared)) * _PAGE


def _stat(path: str) -> tuple[float, int, int, int]:
    """(CPU seconds, resident bytes, minor faults, major faults) of one process."""
    fields = _text(path).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK, int(fields[21]) * _PAGE, int(fields[7]), int(fields[9])


def _cores() -> list[list[float]]:
    """[busy seconds, seconds idle for input and output, seconds taken by the host] of each core."""
    found = []
    for line in _text("/proc/stat").splitlines():
        if line.startswith("cpu") and line[3].isdigit():
            user, nice, system, _, iowait, irq, softirq, steal = (int(each) for each in line.split()[1:9])
            busy = (user + nice + system + irq + softirq) * _TICK
            found.append([round(busy, 2), round(iowait * _TICK, 2), round(steal * _TICK, 2)])
    return found


def _memory() -> dict[str, int]:
    wanted = ("MemTotal", "MemFree", "MemAvailable", "SwapTotal", "SwapFree")
    rows = (line.split() for line in _text("/proc/meminfo").splitlines())
    return {row[0][:-1]: 1024 * int(row[1]) for row in rows if row[0][:-1] in wanted}


def _pages() -> dict[str, int]:
    rows = (line.split() for line in _text("/proc/vmstat").splitlines())
    return {row[0]: int(row[1]) for row in rows if row[0] in ("pgmajfault", "pswpin", "pswpout")}


def _whole_disks() -> frozenset[str]:
    """Names of the disks themselves."""
    folder = Path("/sys/block")
    names = os.listdir(folder) if folder.is_dir() else []
    return frozenset(each for each in names if not each.startswith(("loop", "ram", "zram", "dm-", "md")))


def _disks(whole: frozenset[str]) -> list[int]:
    """Bytes read from and written to all disks; partitions and mapped devices would count twice and are left out."""
    read = written = 0
    with suppress(OSError):
        for line in _text("/proc/diskstats").splitlines():
            fields = line.split()
            if fields[2] in whole:
                read, written = read + int(fields[5]) * _SECTOR, written + int(fields[9]) * _SECTOR
    return [read, written]


def _network() -> list[int]:
    """Bytes received and sent by all interfaces but the loopback."""
    received = sent = 0
    with suppress(OSError):
        for line in _text("/proc/net/dev").splitlines()[2:]:
            name, _, rest = line.partition(":")
            if name.strip() != "lo":
                fields = rest.split()
                received, sent = received + int(fields[0]), sent + int(fields[8])
    return [received, sent]


def _transferred(pids: list[int]) -> tuple[int, int]:
    """Bytes that the living processes of the tree had read from and written to disks."""
    read = written = 0
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            text = _text(f"/proc/{pid}/io")
            read += int(text.partition("\nread_bytes:")[2].split()[0])
            written += int(text.partition("\nwrite_bytes:")[2].split()[0])
    return read, written


def _pressure(resource: str) -> int | None:
    """Microseconds in which some task of the machine waited for `resource`; None on kernels that do not count it."""
    try:
        return int(_text(f"/proc/pressure/{resource}").partition("total=")[2].split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _cgroup(pid: int) -> Path | None:
    """Folder of the process's control group (version 2), or None."""
    with suppress(OSError):
        for line in _text(f"/proc/{pid}/cgroup").splitlines():
            if line.startswith("0::"):
                for folder in (Path("/sys/fs/cgroup") / line[3:].lstrip("/"), Path("/sys/fs/cgroup")):
                    if (folder / "cpu.max").is_file():
                        return folder
    return None


def _quota(group: Path | None) -> float | None:
    if group is None:
        return None
    quota, period = (group / "cpu.max").read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _throttled(group: Path | None) -> float | None:
    """Seconds in which the control group was kept from its cores by its quota."""
    if group is None:
        return None
    text = (group / "cpu.stat").read_text().partition("throttled_usec")[2].split()
    return int(text[0]) / 1e6 if text else None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _model() -> str:
    with suppress(OSError):
        for line in _text("/proc/cpuinfo").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return ""
