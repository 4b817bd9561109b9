"""Cuts a network where its frozen stages end: what lies before runs once per image, what lies after is trained.

The front is the frozen stages' modules one after the other, the tail the same network with these modules left out.
Whether front and tail together are the network is tried, not assumed: a transformer adds its positions between its
stages, and such a network is trained through its frozen stages as before.
"""

import torch
from torch import nn

from houndsight.models.backbones import stages
from houndsight.models.inference import normalise
from houndsight.models.network import Network

TOLERANCE = 1e-4
"""Largest difference of the features by front and tail from those of the network, relative to the largest feature."""


class Front(nn.Module):
    """uint8 images (B, 3, S, S) -> what the network's first `depth` stages make of them, (B, ...)."""

    def __init__(self, network: Network, depth: int) -> None:
        super().__init__()
        self.register_buffer("mean", network.mean)
        self.register_buffer("std", network.std)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.modules_in_order = nn.ModuleList(
            module for stage in stages(network.backbone)[:depth] for module in stage.modules
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Feature maps, float32."""
        maps = normalise(images, self.mean, self.std)
        for module in self.modules_in_order:
            maps = module(maps)
        return maps


def cut(network: Network, depth: int, sample: torch.Tensor) -> Front | None:
    """The front of `network` up to its stage `depth`, or None where front and tail do not make up the network.

    `sample` are uint8 images (B, 3, S, S) on which that is tried in float32; the network comes back whole.
    """
    front = Front(network, depth).eval()
    mode = network.training
    network.eval()
    with torch.inference_mode():
        expected = network.features(sample)
        network.leave_out(front.modules_in_order)
        try:
            found = network.features(front(sample))
        except (IndexError, RuntimeError, TypeError, ValueError):
            return None  # the stages do not follow one another as modules alone
        finally:
            network.put_back()
            network.train(mode)
    if found.shape != expected.shape:
        return None
    scale = float(expected.abs().max())
    return front if float((found - expected).abs().max()) <= TOLERANCE * scale else None
