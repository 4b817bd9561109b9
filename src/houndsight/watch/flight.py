"""The flight recorder: what the last steps were made of, and the dump of it when something went wrong.

A dump is the folder `flight/<step>/` inside the records: `steps.json` (the remembered steps: learning rates, loss,
image ids, statistics where they were saved), `generators.safetensors` (the random state of torch before each),
`batch.safetensors` (what the network was given), `suspects.safetensors` (weights and gradients of the tensors in
question), `finding.json`, and the checkpoint before the step, so that `houndsight replay` can go there again.
"""

import json
import logging
import os
import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from houndsight.records.tensors import TensorRecords
from houndsight.spec import Finding
from houndsight.workspace import write_json

log = logging.getLogger("houndsight")

DUMPS = 3  # in one run: a training that is ill in every step says nothing new
MOST_BYTES = 64 << 20  # of suspects and batch, each


@dataclass(slots=True)
class Remembered:
    """One step in the ring."""

    step: int
    lr: float | None
    ids: Tensor | None
    """Positions of the images in their split, (B,)."""
    generator: Tensor
    """State of torch's random generator before the step."""


class Flight:
    """Remembers the last steps and writes them out when asked."""

    def __init__(self, folder: Path, length: int, checkpoints: Path | None = None) -> None:
        """`folder` is that of the records, `checkpoints` where the training keeps its own."""
        self._folder, self._checkpoints = folder, checkpoints
        self._ring: deque[Remembered] = deque(maxlen=length)
        self.batch: dict[str, Tensor] = {}
        """The newest batch by name; references, not copies."""
        self._state = torch.default_generator.get_state
        self.dumped: list[Path] = []
        """Folders written so far."""

    def note(self, step: int, lr: float | None, ids: Tensor | None) -> None:
        """Remember a step that is about to be done; 3 microseconds, most of it for the random state."""
        self._ring.append(Remembered(step, lr, ids, self._state()))

    def dump(self, step: int, why: list[Finding], suspects: dict[str, Tensor], losses: dict[int, float]) -> Path | None:
        """Write everything down; None where enough was written in this run, or that step was already."""
        place = self._folder / "flight" / str(step)
        if len(self.dumped) >= DUMPS or place.exists():
            return None
        place.mkdir(parents=True)
        records = TensorRecords(self._folder)
        write_json(
            place / "steps.json",
            [
                {
                    "step": each.step,
                    "lr": each.lr,
                    "loss": _number(losses.get(each.step)),
                    "ids": None if each.ids is None else each.ids.tolist(),
                    "statistics": {
                        name: {key: _number(value) for key, value in row.items()}
                        for name, row in records.at(each.step).items()
                    },
                }
                for each in self._ring
            ],
        )
        states = {str(each.step): each.generator for each in self._ring}
        safetensors.torch.save_file(states, place / "generators.safetensors")
        _write(self.batch, place / "batch.safetensors")
        _write(suspects, place / "suspects.safetensors")
        write_json(place / "finding.json", {"findings": [each.model_dump(mode="json") for each in why]})
        if self._checkpoints is not None:
            keep_before(self._checkpoints, step, place)
        self.dumped.append(place)
        log.info("The flight recorder wrote the last %d steps to %s.", len(self._ring), place)
        return place


def keep_before(checkpoints: Path, step: int, place: Path) -> Path | None:
    """Link the newest checkpoint at or before `step` into `place`, so that no newer one drives it out."""
    found = newest_before([checkpoints], step)
    if found is None:
        return None
    target = place / found.name
    try:
        os.link(found, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(found, target)
    return target


def newest_before(folders: list[Path], step: int) -> Path | None:
    """The checkpoint with the most steps done among those from which `step` (from 0) is still to be done, or None."""
    found = [(done_in(each), each) for folder in folders for each in folder.glob("step-*.safetensors")]
    fitting = [(done, each) for done, each in found if done <= step]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def done_in(checkpoint: Path) -> int:
    """How many steps were done when the checkpoint was written, by its name."""
    return int(checkpoint.stem.removeprefix("step-").removesuffix("-end"))


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors up to `MOST_BYTES`, the first ones first."""
    kept: dict[str, Tensor] = {}
    room = MOST_BYTES
    for name, each in tensors.items():
        room -= each.numel() * each.element_size()
        if room < 0:
            break
        kept[name] = each.detach().to("cpu", copy=True).contiguous()
    safetensors.torch.save_file(kept, path)


def _number(value: float | None) -> float | str | None:
    """As JSON can hold it."""
    return value if value is None or json.dumps(value) not in {"NaN", "Infinity", "-Infinity"} else str(value)


def read_flight(place: Path) -> dict[str, Any]:
    """A dump's steps, findings and tensors' names."""
    with safetensors.safe_open(place / "suspects.safetensors", "pt") as file:
        suspects = list(file.keys())
    return {
        "steps": json.loads((place / "steps.json").read_bytes()),
        "findings": json.loads((place / "finding.json").read_bytes())["findings"],
        "suspects": suspects,
    }
