"""Everything a training needs to go on bit for bit, in one file; written by the loop, read by it when it resumes.

A checkpoint is a safetensors file: tensors by name, and the rest as JSON in its header, with a checksum of the
tensors. Nothing in it can run code. It appears under its name only when it is whole and on disk.
"""

import json
import logging
import os
import random
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from houndsight.errors import JobError
from houndsight.training.average import Average
from houndsight.workspace import atomic_write, friendly_disk_errors

log = logging.getLogger("houndsight")

KEPT = 2
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
Tensors = dict[str, Tensor]


@dataclass
class State:
    """Where a training stands, apart from its tensors."""

    plan: dict[str, int] = field(default_factory=dict)
    """What the position below is counted in; a checkpoint of another plan cannot be gone on from."""
    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs done, validation included."""
    batch: int = 0
    """Batches done of the present epoch."""
    seen: int = 0
    """Images of those batches."""
    loss: float = 0.0
    """Sum of their training losses."""
    right: int = 0
    """How many of them were recognised."""
    best_epoch: int = 0
    """Epoch of the best validation value, from 1; 0 before the first."""
    best_value: float | None = None
    """The best validation value; None before the first."""
    seconds: float = 0.0
    """Time spent up to here, by all processes."""
    finished: bool = False
    """Whether the training reached its end."""


@dataclass
class Checkpoint:
    """One moment of a training."""

    state: State
    model: Tensors
    """Trained parameters and all buffers."""
    best: Tensors
    """The same at the best epoch; empty before the first."""
    optimizer: Tensors
    """State of the optimizer, `<parameter's position>.<name>`."""
    average: Tensors
    """Moving average of the weights; empty where there is none."""
    generators: dict[str, Any]
    """States of all random generators, as `get_generators` gives them."""

    @classmethod
    def take(
        cls,
        state: State,
        network: nn.Module,
        best: Tensors,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        average: Average | None = None,
    ) -> Self:
        """The present moment; the tensors are views of the living ones, so it is to be written at once."""
        moments = {
            f"{position}.{name}": value
            for position, values in optimizer.state_dict()["state"].items()
            for name, value in values.items()
            if value is not None
        }
        return cls(state, learned(network), best, moments, average.tensors if average else {}, get_generators(device))

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        """Put network, optimizer and random generators back to this moment.

        Raises `JobError` where the checkpoint belongs to another network.
        """
        load_learned(network, self.model)
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in self.optimizer.items():
            position, name = key.split(".")
            # The fused kernels walk through memory: a moment has to be laid out as its parameter is.
            laid = value if name == "step" else torch.empty_like(parameters[int(position)]).copy_(value)
            moments.setdefault(int(position), {})[name] = laid
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        set_generators(self.generators, device)


class Keeper:
    """Holds what a training must not lose: where it stands, its best weights, and when all that was last written."""

    def __init__(
        self,
        folder: Path,
        every: float,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        plan: dict[str, int],
        average: Average | None = None,
    ) -> None:
        """Go on from the newest whole checkpoint in `folder`, else begin; `every` is in seconds.

        Raises `JobError` where that checkpoint belongs to another network, other data or other settings.
        """
        self.state = State(plan=plan)
        self.best: Tensors = {}
        self._folder, self._every = folder, every
        self._network, self._optimizer, self._device, self._average = network, optimizer, device, average
        saved = load(folder)
        if saved is not None:
            if saved.state.plan != plan:
                raise JobError(
                    f"The checkpoint in {folder} counts otherwise than this training: {saved.state.plan}, now {plan}.",
                    "The data or the settings have changed since; start a new job.",
                )
            saved.restore(network, optimizer, device)
            if average is not None:
                average.restore(saved.average)
            self.state = saved.state
            self.best = {name: each.to(device) for name, each in saved.best.items()}
            log.info("Going on after step %d of %d.", self.state.step, plan["total"])
        self._began = self._written = time.monotonic()
        self._before = self.state.seconds

    def due(self) -> bool:
        """Whether the last checkpoint is old enough for another one."""
        return time.monotonic() - self._written >= self._every

    def seconds(self) -> float:
        """Time that the training took so far, earlier processes included."""
        return self._before + time.monotonic() - self._began

    def save(self) -> None:
        """Write a checkpoint; raises `DiskFullError` where there is no room, the older ones stay."""
        self.state.seconds = self.seconds()
        moment = Checkpoint.take(self.state, self._network, self.best, self._optimizer, self._device, self._average)
        save(self._folder, moment)
        self._written = time.monotonic()

    def keep_best(self, value: float) -> None:
        """The present weights are the best so far, by `value` at the present epoch."""
        self.state.best_epoch, self.state.best_value = self.state.epoch, value
        self.best = {name: each.detach().clone() for name, each in learned(self._network).items()}

    def load_best(self) -> None:
        """Give the network the best weights."""
        load_learned(self._network, self.best)


def learned(network: nn.Module) -> Tensors:
    """What training changes, by name: parameters that train and all persistent buffers; frozen ones are left out."""
    frozen = {name for name, each in network.named_parameters() if not each.requires_grad}
    return {name: each for name, each in network.state_dict().items() if name not in frozen}


def load_learned(network: nn.Module, tensors: Tensors) -> None:
    """Copy such tensors into the network; raises `JobError` where names or shapes differ."""
    into = learned(network)
    if {name: each.shape for name, each in into.items()} != {name: each.shape for name, each in tensors.items()}:
        raise JobError(
            "The checkpoint belongs to another network than the one that was built.",
            "Start a new job, or delete the job's checkpoints folder to train from the beginning.",
        )
    for name, each in into.items():
        each.copy_(tensors[name])


def get_generators(device: torch.device) -> dict[str, Any]:
    """States of the random generators of torch (CPU and `device`), numpy and Python, as JSON can hold them."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    states: dict[str, Any] = {
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": random.getstate(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device).numpy().tobytes().hex()
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state().numpy().tobytes().hex()
    return states


def set_generators(states: dict[str, Any], device: torch.device) -> None:
    """Put the random generators back; a device's own where the states come from such a device."""

    def tensor(name: str) -> Tensor:
        return torch.frombuffer(bytearray.fromhex(states[name]), dtype=torch.uint8)

    torch.set_rng_state(tensor("torch"))
    np.random.set_state(tuple(states["numpy"]))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(tensor("cuda"), device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(tensor("mps"))


# ----------------------------------------------------------------------------------------------- files


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write the checkpoint beside the older ones, then keep the last two; returns its path.

    Raises `DiskFullError` where there is no room: the older checkpoints are then untouched.
    """
    tensors = {
        f"{part}/{name}": value
        for part, values in (
            ("model", checkpoint.model),
            ("best", checkpoint.best),
            ("optimizer", checkpoint.optimizer),
            ("average", checkpoint.average),
        )
        for name, value in values.items()
    }
    path = folder / f"step-{checkpoint.state.step:09d}{'-end' if checkpoint.state.finished else ''}.safetensors"
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _write(path, tensors, {"state": asdict(checkpoint.state), "generators": checkpoint.generators})
    for old in _newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def load(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None; a damaged one is named in the log and left out."""
    for staged in folder.glob(".step-*"):  # left by a process that was killed while it wrote
        staged.unlink(missing_ok=True)
    for path in _newest_first(folder):
        try:
            tensors, rest = _read(path)
            state = State(**rest["state"])
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            log.warning("The checkpoint %s is damaged and left out (%s).", path, error)
            continue
        parts: dict[str, Tensors] = {"model": {}, "best": {}, "optimizer": {}, "average": {}}
        for key, value in tensors.items():
            part, name = key.split("/", 1)
            parts[part][name] = value
        return Checkpoint(state, generators=rest["generators"], **parts)
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(
        folder.glob("step-*.safetensors"), key=lambda path: (path.stem.removesuffix("-end"), path.stem), reverse=True
    )


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _write(path: Path, tensors: Tensors, rest: dict[str, Any]) -> None:
    """The safetensors format by hand: its own writer hides the operating system's error and needs a second copy."""
    header: dict[str, Any] = {}
    end = checksum = 0
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # widest first: all lie aligned
    for name in names:
        data = _bytes(tensors[name])
        checksum = zlib.crc32(data, checksum)
        header[name] = {
            "dtype": _DTYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [end, end + data.nbytes],
        }
        end += data.nbytes
    header["__metadata__"] = {"crc32": str(checksum), "rest": json.dumps(rest)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in names:
            file.write(_bytes(tensors[name]))
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name too has to outlive a power cut before older checkpoints go
    finally:
        os.close(folder)


def _read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and the JSON beside them; raises ValueError, KeyError or SafetensorError for anything damaged."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8:begin])["__metadata__"]
    if zlib.crc32(memoryview(data)[begin:]) != int(metadata["crc32"]):
        raise ValueError("its checksum is wrong")
    return safetensors.torch.load(data), json.loads(metadata["rest"])
