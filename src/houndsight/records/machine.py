"""What the machine did while a training ran, as arrays: rates made from the counters that the sampler wrote."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from houndsight.errors import WorkspaceError

MACHINE = "machine.jsonl"
"""Name of the sampler's file in the folder of records."""
FORMAT_VERSION = 1
GPU_COLUMNS = (
    *("utilisation", "memory_utilisation", "memory_used", "power", "energy", "sm_clock", "memory_clock"),
    *("throttle", "sent", "received", "temperature"),
)
"""Of each GPU: %, %, bytes, W, J since the driver started, MHz, MHz, bit mask, KB/s over PCIe both ways, Celsius."""

Series = NDArray[np.float64]


def _none() -> Series:
    return np.empty(0)


def _no_rows() -> Series:
    return np.empty((0, 0))


@dataclass(frozen=True)
class Machine:
    """n intervals between two samples each; what was not measured is NaN. Rates are means over the interval."""

    cores: int = 0
    """Cores of the machine."""
    usable: float = 0.0
    """Cores that the training was allowed to use: its affinity and the quota of its control group."""
    memory: int = 0
    """Bytes of memory."""
    model: str = ""
    """Name of the processor."""
    host: str = ""
    """Name of the machine."""
    gpus: tuple[dict[str, Any], ...] = ()
    """`name` and `memory` (bytes) of each GPU."""
    interval: float = 0.0
    """Seconds between samples, as asked for."""
    time: Series = field(default_factory=_none)
    """End of each interval, (n,), seconds since the epoch."""
    seconds: Series = field(default_factory=_none)
    """Length of each interval, (n,)."""
    cpu: Series = field(default_factory=_no_rows)
    """Share of the interval in which each core was busy, (n, cores)."""
    iowait: Series = field(default_factory=_no_rows)
    """Share in which each core was idle while something waited for a disk, (n, cores)."""
    stolen: Series = field(default_factory=_none)
    """Cores' worth of time that the host gave to other guests, (n,)."""
    tree: Series = field(default_factory=_none)
    """Cores that the training's processes kept busy, (n,)."""
    others: Series = field(default_factory=_none)
    """Cores that everybody else kept busy, without the sampler, (n,)."""
    main: Series = field(default_factory=_none)
    """Share in which the training's own thread ran, (n,)."""
    waited: Series = field(default_factory=_none)
    """Share in which that thread was ready to run and waited for a core, (n,)."""
    throttled: Series = field(default_factory=_none)
    """Share in which a quota kept the control group from its cores, (n,)."""
    available: Series = field(default_factory=_none)
    """Bytes of memory that could still be had at the end, (n,)."""
    swap: Series = field(default_factory=_none)
    """Pages swapped in and out a second, (n,)."""
    rss: Series = field(default_factory=_none)
    """Resident bytes of the training's processes, shared pages counted once a process, (n,)."""
    pss: Series = field(default_factory=_none)
    """The same with shared pages counted once; NaN with a single process, (n,)."""
    anonymous: Series = field(default_factory=_none)
    """Resident bytes that belong to no file, (n,): what a leak makes grow."""
    pressure: Series = field(default_factory=_no_rows)
    """Share in which some task of the machine waited for a core, for memory, for a disk, (n, 3)."""
    major: Series = field(default_factory=_none)
    """Page faults a second of the training that needed a disk, (n,)."""
    minor: Series = field(default_factory=_none)
    """Page faults a second of the training that did not, (n,)."""
    disk: Series = field(default_factory=_no_rows)
    """Bytes a second read from and written to disks, (n, 2)."""
    net: Series = field(default_factory=_no_rows)
    """Bytes a second received and sent, (n, 2)."""
    gpu: Series = field(default_factory=lambda: np.empty((0, 0, 0)))
    """`GPU_COLUMNS` of each GPU at the end of the interval, (n, gpus, columns)."""
    kids: dict[int, Series] = field(default_factory=dict)
    """Cores that each further process of the training kept busy, by process id, (n,)."""
    own: float = 0.0
    """CPU seconds of the sampler itself."""

    def __len__(self) -> int:
        return len(self.time)

    def within(self, start: float, end: float) -> NDArray[np.bool_]:
        """Which intervals lie at least half in [start, end], (n,)."""
        overlap = np.minimum(self.time, end) - np.maximum(self.time - self.seconds, start)
        return overlap >= 0.5 * self.seconds

    def of_gpus(self, column: str) -> Series:
        """One of `GPU_COLUMNS` for every GPU, (n, gpus)."""
        return self.gpu[:, :, GPU_COLUMNS.index(column)]


def read(folder: Path) -> Machine:
    """What the sampler wrote in `folder` (of records); an empty `Machine` where there is nothing.

    A torn or damaged line is left out. Where a job was resumed, the stretches follow each other. Raises
    `WorkspaceError` where a newer Houndsight wrote the file.
    """
    facts: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    before: dict[str, Any] | None = None
    own = 0.0
    for line in _lines(folder / MACHINE):
        if "format" in line:
            if line["format"] > FORMAT_VERSION:
                raise WorkspaceError(
                    f"{folder / MACHINE} was written by a newer Houndsight.", "pip install --upgrade houndsight"
                )
            facts, before = line, None
            continue
        if before is not None and line["t"] > before["t"]:
            rows.append(_difference(before, line))
            own += line["own"] - before["own"]
        elif before is None:
            own += line["own"]
        before = line
    if not facts:
        return Machine()
    return _joined(facts, rows, own)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return
    for line in text.split(b"\n")[:-1]:  # what follows the last newline is torn
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict) and ("format" in document or {"t", "cpu", "tree", "own"} <= document.keys()):
            yield document


def _difference(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The rates between two samples of one sampler."""
    seconds = now["t"] - before["t"]
    cpu = (np.array(now["cpu"]) - np.array(before["cpu"])) / seconds  # (cores, 3)
    tree, earlier = now["tree"], before["tree"]
    used = (tree["cpu"] - earlier["cpu"]) / seconds
    row = {
        "time": now["t"],
        "seconds": seconds,
        "cpu": np.clip(cpu[:, 0], 0.0, 1.0),
        "iowait": np.clip(cpu[:, 1], 0.0, 1.0),
        "stolen": max(0.0, float(cpu[:, 2].sum())),
        "tree": max(0.0, used),
        "others": max(0.0, float(cpu[:, 0].sum()) - used - (now["own"] - before["own"]) / seconds),
        "available": now["mem"][0],
        "rss": tree["rss"],
        "pss": tree.get("pss"),
        "anonymous": tree.get("anonymous"),
        "kids": dict(tree["kids"]),
        "kids_before": dict(earlier["kids"]),
        "gpu": now.get("gpu", []),
    }
    for name in ("major", "minor"):
        row[name] = (tree[name] - earlier[name]) / seconds if name in tree else None
    row["swap"] = sum(now["page"][at] - before["page"][at] for at in (1, 2)) / seconds if "page" in now else None
    known = now.get("throttled") is not None and before.get("throttled") is not None
    row["throttled"] = (now["throttled"] - before["throttled"]) / seconds if known else None
    row["pressure"] = [
        np.nan if one is None or other is None else (one - other) / 1e6 / seconds
        for one, other in zip(now.get("psi", [None] * 3), before.get("psi", [None] * 3), strict=True)
    ]
    for name in ("disk", "net"):
        row[name] = [(now[name][at] - before[name][at]) / seconds for at in (0, 1)]
    (pid, ran, waited), (pid_before, ran_before, waited_before) = tree["main"], earlier["main"]
    same = pid == pid_before and ran is not None and ran_before is not None
    row["main"] = (ran - ran_before) / seconds if same else None
    row["waited"] = (waited - waited_before) / seconds if same else None
    return row


def _joined(facts: dict[str, Any], rows: list[dict[str, Any]], own: float) -> Machine:
    def column(name: str) -> Series:
        return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=float)

    def table(name: str, width: int) -> Series:
        found = np.full((len(rows), width), np.nan)
        for at, row in enumerate(rows):
            found[at, : len(row[name])] = row[name][:width]
        return found

    gpus, cores = facts["gpus"], facts["cores"]
    gpu = np.full((len(rows), len(gpus), len(GPU_COLUMNS)), np.nan)
    for at, row in enumerate(rows):
        for number, values in enumerate(row["gpu"][: len(gpus)]):
            gpu[at, number] = [np.nan if value is None else value for value in values]
    kids: dict[int, Series] = {}
    for at, row in enumerate(rows):
        for pid, cpu in row["kids"].items():
            share = kids.setdefault(pid, np.full(len(rows), np.nan))
            share[at] = max(0.0, cpu - row["kids_before"].get(pid, 0.0)) / row["seconds"]
    names = (
        *("time", "seconds", "stolen", "tree", "others", "main", "waited", "throttled", "available", "swap"),
        *("rss", "pss", "anonymous", "major", "minor"),
    )
    return Machine(
        cores=cores,
        usable=facts["usable"],
        memory=facts["memory"],
        model=facts["model"],
        host=facts["host"],
        gpus=tuple(gpus),
        interval=facts["interval"],
        **{name: column(name) for name in names},
        cpu=table("cpu", cores),
        iowait=table("iowait", cores),
        disk=table("disk", 2),
        net=table("net", 2),
        pressure=table("pressure", 3),
        gpu=gpu,
        kids=kids,
        own=own,
    )
