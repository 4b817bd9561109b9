"""What the first moments tell about a network: pretrained or fresh, and its modules; asked by several rules."""

import numpy as np
from numpy.typing import NDArray

from houndsight.records.rules.history import Group, History

LARGE, TAIL = 4096, 4.8  # of 4096 normal values the largest is 3.5 +- 0.35 deviations off; of trained weights 5 to 30


def pretrained(history: History) -> bool | None:
    """Whether the weights were trained before this run; None where that cannot be told.

    Where the facts do not say it, the tails of the weights do: fresh ones are uniform or normal, and the largest of
    4096 is below 4.8 deviations; trained ones have heavy tails. It takes three layers of 4096 values.
    """
    told = history.facts.get("pretrained")
    if told is not None:
        return bool(told)
    group = history.group("weight/")
    flags = history.flags(group)
    chosen = flags.matrix & ~flags.head & (flags.size >= LARGE)
    largest = np.maximum(np.abs(history.now(group, "min")), np.abs(history.now(group, "max")))
    tails = (largest / history.now(group, "std"))[chosen]
    tails = tails[np.isfinite(tails)]
    return bool(np.median(tails) > TAIL) if len(tails) >= 3 else None


def kinds(history: History, group: Group, types: tuple[str, ...]) -> NDArray[np.bool_]:
    """(n,) which modules of a group are of one of these types."""
    of = history.modules
    key = (id(group), types)
    found: NDArray[np.bool_] | None = history.kinds.get(key)
    if found is None:
        inside = [of.get(name.partition("#")[0], "") in types for name in group.names]
        found = history.kinds[key] = np.array(inside, bool)
    return found


def last_layer(history: History) -> tuple[str, str]:
    """Name and type of the last module of the network; empty where the modules are not known."""
    found = list(history.modules.items())
    return found[-1] if found else ("", "")
