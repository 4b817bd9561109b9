"""What a running script shows about itself: where it calls from, its data, and evaluation that keeps gradients."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from houndsight.spec import Finding

MOST_LABELS = 5_000_000
"""Labels of a data set that are counted at most."""
NO_GRAD = 3
"""So many evaluating forward passes in a row that keep their graph are worth a word."""


def place(code: Path) -> dict[str, Any]:
    """File, line and text of the newest line of the script's own that is being run; empty where there is none."""
    import linecache

    root = str(code) + os.sep
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(root):
            line = linecache.getline(name, frame.f_lineno).strip()
            return {"file": name.removeprefix(root), "line": frame.f_lineno, "code": line}
        frame = frame.f_back
    return {}


class Evaluations:
    """Counts evaluating forward passes that keep what only a backward pass would need."""

    def __init__(self, code: Path) -> None:
        self._code = code
        self._count, self._step = 0, 0
        self._where: dict[str, Any] = {}
        self.found: Finding | None = None
        """What was found, once."""

    def passed(self, made: Any, step: int) -> None:
        """A pass in eval mode, with gradients on, has made this."""
        if self.found is not None or not any(each.requires_grad for each in tensors(made)):
            return
        if not self._count:
            self._where, self._step = place(self._code), step
        self._count += 1

    def trained(self) -> Finding | None:
        """A step followed: the last pass was training in eval mode, of which another rule tells."""
        self._count -= 1
        return self.over()

    def over(self) -> Finding | None:
        """Training goes on, or all is over: what can be said of the evaluation that lies behind."""
        count, self._count = self._count, 0
        if self.found is not None or count < NO_GRAD:
            return None
        where = self._where
        at = f" ({where['file']}, line {where['line']})" if where else ""
        self.found = Finding(
            source="debugger",
            rule="no_grad",
            severity="warning",
            step=self._step,
            message=f"{count} forward passes of an evaluation kept all that a backward pass would need: memory and "
            f"time that nobody uses{at}.",
            repair="Put `with torch.no_grad():` around the evaluation"
            + (f", around line {where['line']} of {where['file']}." if where else "."),
            evidence={"passes": count, **where, **({"places": [where]} if where else {})},
        )
        return self.found


def tensors(made: Any) -> list[torch.Tensor]:
    """The tensors in what a module returned, two levels deep."""
    if isinstance(made, torch.Tensor):
        return [made]
    inside = made.values() if isinstance(made, dict) else made if isinstance(made, tuple | list) else ()
    return [each for each in inside if isinstance(each, torch.Tensor)]


def of_loader(loader: Any) -> dict[str, Any]:
    """What the loader of a training tells of its data, as facts for the rules; only what is certain."""
    data = loader.dataset
    facts: dict[str, Any] = {}
    try:
        facts = {"samples": len(data), "steps_per_epoch": len(loader)}
    except TypeError:  # a stream: it has no length
        return facts
    positions: Any = None
    while isinstance(data, torch.utils.data.Subset):
        positions = data.indices if positions is None else [data.indices[each] for each in positions]
        data = data.dataset
    classes, labels = vars(data).get("classes"), vars(data).get("targets", vars(data).get("labels"))
    if isinstance(classes, list | tuple) and all(isinstance(each, str) for each in classes):
        facts |= {"classes": list(classes), "num_classes": len(classes)}
    if isinstance(labels, list | tuple | np.ndarray | torch.Tensor) and 0 < len(labels) <= MOST_LABELS:
        counted = np.asarray(labels)
        if counted.ndim == 1 and np.issubdtype(counted.dtype, np.integer) and counted.min() >= 0:
            counted = counted if positions is None else counted[np.asarray(positions, np.int64)]
            counts = np.bincount(counted, minlength=int(facts.get("num_classes", 0)))
            if len(counts) <= 100_000:
                facts["class_counts"] = counts.tolist()
    return facts
