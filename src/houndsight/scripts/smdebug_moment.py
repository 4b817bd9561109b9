"""One step that a hook of `smdebug` saves: tensors taken whole or as reductions, as its collections ask for."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from houndsight.scripts.smdebug_config import WHOLE, Collection, ReductionConfig
from houndsight.scripts.smdebug_errors import ModeKeys
from houndsight.scripts.smdebug_store import Array

MOST_BYTES = 8 << 20
"""Of what nobody asked for, so much is saved whole in a step, and a quarter of it of one tensor; of the rest its
reductions are. The gradients of a new head for 133 classes are 1 MiB; those of a whole ResNet-18 would be 45."""
IN_PLACE = ReductionConfig(reductions=["min", "max", "mean", "std"], norms=["l2"], save_shape=True)
"""What is saved of a tensor that would be too large."""
WHOLE_TENSOR = ReductionConfig(save_raw_tensor=True)


@dataclass
class Moment:
    """A step that is being saved."""

    number: int
    mode: ModeKeys
    mode_step: int
    collections: list[Collection]
    values: dict[str, Array] = field(default_factory=dict)
    reductions: dict[str, dict[str, float]] = field(default_factory=dict)
    shapes: dict[str, list[int]] = field(default_factory=dict)
    size: int = 0
    """Bytes of the tensors taken whole."""

    def add(self, name: str, tensor: Tensor, most: int | None) -> None:
        """Take in a tensor where a collection holds it: whole, as reductions, or both; `most` bytes whole at most."""
        holding = [each for each in self.collections if each.holds(name)]
        if not holding or tensor.numel() == 0 or tensor.is_complex():
            return
        tensor = tensor.detach()
        tensor = tensor.to_dense() if tensor.is_sparse else tensor
        configs = [WHOLE_TENSOR if each.name in WHOLE else each.reduction_config or WHOLE_TENSOR for each in holding]
        size = tensor.numel() * tensor.element_size()
        if most is not None and tensor.ndim and (self.size + size > most or 4 * size > most):
            configs = [IN_PLACE]
        for config in configs:
            if config.save_raw_tensor and name not in self.values:
                self.size += size
                whole = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
                self.values[name] = whole.to("cpu", copy=True).contiguous().numpy()
            if config.save_shape:
                self.shapes[name] = list(tensor.shape)
            for reduction, absolute in config.wanted():
                found = self.reductions.setdefault(name, {})
                found["abs_" * absolute + reduction] = reduced(tensor, reduction, absolute=absolute)


def reduced(tensor: Tensor, name: str, *, absolute: bool) -> float:
    """One number of the whole tensor, as torch computes it (`std` and `variance` with n - 1), in float32 or better."""
    values = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
    values = values.abs() if absolute else values
    if name in ("l1", "l2"):
        return float(torch.linalg.vector_norm(values, int(name[1])))
    if name in ("std", "variance"):
        return float((values.std() if name == "std" else values.var()) if values.numel() > 1 else values.new_zeros(()))
    return float(getattr(values, name)())
