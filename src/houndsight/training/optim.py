"""How the weights move: the optimizer, the learning rate of each step and the loss, from the spec; used by the loop."""

from collections.abc import Callable
from functools import partial
from math import cos, pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from houndsight.data.loader import Batches
from houndsight.errors import SpecError
from houndsight.models.backbones import stages
from houndsight.models.network import Network
from houndsight.spec import ClassifierSpec


def build_optimizer(network: nn.Module, spec: ClassifierSpec) -> torch.optim.Optimizer:
    """The spec's optimizer over the parameters that train; raises `SpecError` where there are none.

    Weight decay acts on matrices and kernels alone: biases and the scales of norms (one dimension or none) are left
    free, since pulling them to zero shrinks no function and shifts the output. Adam and SGD take it as an L2 term of
    the gradient, AdamW decoupled. The fused kernels do all parameters in one pass.
    """
    free = [each for each in network.parameters() if each.requires_grad]
    if not free:
        raise SpecError("freeze: nothing is left to train.", "Give --freeze all (trains the head), a number or none.")
    groups: list[dict[str, Any]] = []
    for scale, parameters in rates(network, spec.layer_decay):
        for matrices in (True, False):
            chosen = [each for each in parameters if each.requires_grad and (each.ndim >= 2) == matrices]
            decay = (spec.weight_decay or 0.0) if matrices else 0.0
            groups += [{"params": chosen, "weight_decay": decay, "scale": scale}] if chosen else []
    if spec.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=peak(spec), momentum=spec.momentum, fused=True)
    kind = torch.optim.AdamW if spec.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=peak(spec), eps=spec.eps, fused=True)


def rates(network: nn.Module, layer_decay: float) -> list[tuple[float, list[nn.Parameter]]]:
    """Parameters and the share of the learning rate at which they learn: 1 for the head, times `layer_decay` a stage.

    Layer-wise decay follows BEiT (Bao et al., ICLR 2022); 1 is one rate for all.
    """
    if layer_decay == 1.0 or not isinstance(network, Network):
        return [(1.0, list(network.parameters()))]
    parts = stages(network.backbone)
    found = [(layer_decay ** (len(parts) - at), list(part.parameters)) for at, part in enumerate(parts)]
    return [*found, (1.0, list(network.head.parameters()))]


def skip_steps_where(optimizer: torch.optim.Optimizer, flag: Tensor) -> None:
    """From now on every step does nothing while `flag`, a float32 scalar on the device, is 1.

    This is the way `torch.amp.GradScaler` makes the fused kernels leave weights and state alone without asking the
    device for an answer.
    """
    vars(optimizer)["found_inf"] = flag


def learning_rate(spec: ClassifierSpec, step: int, total: int) -> float:
    """The learning rate of `step` (from 0) out of `total`: a linear rise over the warm-up, then the schedule.

    The first step of a warm-up of w steps takes lr / w, the last one lr; cosine then falls towards 0, which it would
    reach at step `total` (Loshchilov and Hutter 2017, one cycle).
    """
    warm = round(spec.warmup * total)
    if step < warm:
        return peak(spec) * (step + 1) / warm
    if spec.schedule == "constant":
        return peak(spec)
    return peak(spec) * 0.5 * (1 + cos(pi * (step - warm) / max(1, total - warm)))


def peak(spec: ClassifierSpec) -> float:
    """The learning rate of a spec that a recipe has completed."""
    assert spec.lr is not None, "every recipe with steps decides the learning rate"
    return spec.lr


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of the learning rate of the coming step."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def build_loss(
    network: nn.Module, batches: Batches, spec: ClassifierSpec, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """The training loss of logits (B, C) and labels (B,): cross-entropy with the spec's smoothing and class weights.

    With weights it is the weighted mean, sum w(y) loss / sum w(y), as torch has it. Balanced weights read the training
    split once for its labels.
    """
    weight = None
    if spec.class_weights == "balanced":
        weight = balanced_weights(network, batches, device)
    return partial(functional.cross_entropy, weight=weight, label_smoothing=spec.label_smoothing)


def balanced_weights(network: nn.Module, batches: Batches, device: torch.device) -> Tensor:
    """Weight of each class in the loss, (C,): N / (C n), so that an average image weighs 1 (scikit-learn's "balanced").

    A class without training images gets weight 0.
    """
    network.eval()
    labels: list[Tensor] = []
    classes = 0
    for batch in batches.evaluate("train"):
        if not classes:
            with torch.no_grad():
                classes = network(batch.images[:1].to(device)).shape[1]
        labels.append(batch.labels)
    return torch.from_numpy(balanced(torch.cat(labels).numpy(), classes)).to(device)


def balanced(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Weight of each class, (C,): N / (C n), so that an average image weighs 1; 0 for a class without images."""
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts > 0, len(labels) / (classes * np.maximum(counts, 1)), 0.0).astype(np.float32)
