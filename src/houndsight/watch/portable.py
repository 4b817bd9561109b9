"""Counters of a machine that is not Linux (macOS) and of one tree of processes, through psutil; for the sampler."""

import time
from contextlib import suppress
from typing import Any

import psutil


class Portable:
    """Reads what psutil knows everywhere; what it does not know is left out and reads as unknown."""

    def __init__(self, pid: int) -> None:
        self._process: Any = psutil.Process(pid)
        self._cpu: dict[int, float] = {}
        self._gone = 0.0

    def facts(self) -> dict[str, Any]:
        """Cores, memory in bytes and the process that is watched."""
        cores = psutil.cpu_count() or 1
        memory = psutil.virtual_memory().total
        return {"pid": self._process.pid, "cores": cores, "usable": float(cores), "memory": memory, "model": ""}

    def sample(self) -> dict[str, Any] | None:
        """One sample; None where the watched process is gone."""
        try:
            members = [self._process, *self._process.children(recursive=True)]
            tree = self._tree(members)
        except psutil.NoSuchProcess:
            return None
        disk, net = psutil.disk_io_counters(), psutil.net_io_counters()
        busy = [[round(each.user + each.system, 2), 0.0, 0.0] for each in psutil.cpu_times(percpu=True)]
        return {
            "t": round(time.time(), 4),
            "cpu": busy,
            "mem": [psutil.virtual_memory().available, psutil.swap_memory().used],
            "disk": [disk.read_bytes, disk.write_bytes] if disk else [0, 0],
            "net": [net.bytes_recv, net.bytes_sent],
            "tree": tree,
        }

    def _tree(self, members: list[Any]) -> dict[str, Any]:
        rss, seen = 0, {}
        for each in members:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                times = each.cpu_times()
                seen[each.pid] = times.user + times.system
                rss += each.memory_info().rss
        if self._process.pid not in seen:
            raise psutil.NoSuchProcess(self._process.pid)
        for pid in [each for each in self._cpu if each not in seen]:
            self._gone += self._cpu.pop(pid)
        self._cpu.update(seen)
        kids = [[pid, round(cpu, 2)] for pid, cpu in sorted(seen.items()) if pid != self._process.pid]
        main = [self._process.pid, None, None]
        return {
            "n": len(seen),
            "cpu": round(self._gone + sum(seen.values()), 3),
            "main": main,
            "rss": rss,
            "kids": kids,
        }
