"""The moving average of the weights: smoother than the last step, validated and kept in its place; part of the loop."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of all parameters that train; with `decay` 0 it is not there and costs nothing.

    The decay rises with the steps as (1 + t) / (10 + t), at most to `decay`, so that the first weights are soon
    forgotten (as in TensorFlow's ExponentialMovingAverage). Buffers are not averaged.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._live = {name: each for name, each in network.named_parameters() if each.requires_grad and decay}
        self.tensors: dict[str, Tensor] = {name: each.detach().clone() for name, each in self._live.items()}
        """Name -> average; part of a checkpoint."""

    def update(self, step: int) -> None:
        """Take in the weights after optimizer step number `step`, from 1."""
        if self._decay:
            weight = 1.0 - min(self._decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(
                    list(self.tensors.values()), [each.detach() for each in self._live.values()], weight
                )

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what a checkpoint held."""
        for name, each in self.tensors.items():
            each.copy_(tensors[name])

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """While it lasts the network holds the averages, and then its own weights again."""
        before = {name: each.detach().clone() for name, each in self._live.items()}
        self._set(self.tensors)
        try:
            yield
        finally:
            self._set(before)

    def _set(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, each in self._live.items():
                each.copy_(tensors[name])
