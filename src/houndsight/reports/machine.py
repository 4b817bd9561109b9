"""What the machine did while a job ran: cores and GPUs over time as a map, memory, disk and network as curves."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from houndsight.records import machine as machines
from houndsight.records.machine import Machine
from houndsight.reports.tensors import rounded
from houndsight.reports.watched import MachineUse, Row

BUCKETS = 400
"""Most pieces of time."""
ROWS = 128
"""Most cores in the map; of more the busiest are shown."""


def gather(folder: Path) -> MachineUse | None:
    """What the sampler saw; None where it did not run or saw less than two intervals."""
    seen = machines.read(folder)
    if len(seen) < 2:
        return None
    start = float(seen.time[0] - seen.seconds[0])
    size = max(1, -(-len(seen) // BUCKETS))
    ends = [min(begin + size, len(seen)) - 1 for begin in range(0, len(seen), size)]

    def means(values: NDArray[Any]) -> Row:
        return rounded(np.array([_mean(values[begin : begin + size]) for begin in range(0, len(values), size)]))

    busiest = np.sort(np.argsort(-np.nan_to_num(seen.cpu).mean(axis=0), kind="stable")[:ROWS])
    busy = {f"core {core}": means(seen.cpu[:, core]) for core in busiest.tolist()}
    for gpu in range(len(seen.gpus)):
        busy[f"GPU {gpu}"] = means(seen.of_gpus("utilisation")[:, gpu] / 100)
    curves = {name: means(values) for name, values in _series(seen).items()}
    return MachineUse(
        model=seen.model,
        cores=seen.cores,
        usable=seen.usable,
        memory=seen.memory,
        gpus=tuple(str(each.get("name", "")) for each in seen.gpus),
        interval=seen.interval,
        time=tuple(round(float(seen.time[at]) - start, 3) for at in ends),
        busy=busy,
        curves={name: row for name, row in curves.items() if any(each is not None for each in row)},
    )


def _series(seen: Machine) -> dict[str, NDArray[Any]]:
    resident = np.where(np.isfinite(seen.pss), seen.pss, seen.rss)
    found = {
        "training_cores": seen.tree,
        "other_cores": seen.others,
        "memory_training": resident,
        "memory_used": seen.memory - seen.available,
        "disk_read": seen.disk[:, 0],
        "disk_written": seen.disk[:, 1],
        "received": seen.net[:, 0],
        "sent": seen.net[:, 1],
    }
    for gpu in range(len(seen.gpus)):
        found[f"gpu{gpu}_memory"] = seen.of_gpus("memory_used")[:, gpu]
        found[f"gpu{gpu}_power"] = seen.of_gpus("power")[:, gpu]
    return found


def _mean(values: NDArray[Any]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
