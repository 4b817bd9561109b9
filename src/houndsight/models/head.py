"""The part of the network that is always trained: from features (B, D) to logits (B, C), with seeded first weights."""

import math

import torch
from torch import nn

from houndsight.models.inference import create_head


def make_head(features: int, hidden: tuple[int, ...], classes: int, dropout: float, seed: int) -> nn.Sequential:
    """A linear head, or one with hidden ReLU layers; the same seed gives the same weights whatever was drawn before.

    The distribution is that of `nn.Linear`: uniform within 1 / sqrt(inputs), for weights and biases alike.
    """
    with torch.random.fork_rng(devices=[]):  # the device "meta" would do, and import sympy: 2 s of CPU
        head = create_head(features, hidden, classes, dropout)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in head:
            if isinstance(layer, nn.Linear):
                bound = 1.0 / math.sqrt(layer.in_features)
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
    return head
