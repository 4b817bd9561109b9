"""Healthy trainings that differ in everything a healthy training may differ in; for the rate of false alarms."""

import itertools
import random

from torch import nn

from .runs import Run


def _first_frozen(net: nn.Sequential) -> nn.Module:
    net[0].requires_grad_(False)
    return net


def healthy(count: int = 130) -> list[Run]:
    """`count` distinct healthy runs, the same every time: drawn from a grid of sound settings."""
    draw = random.Random(0)
    rates = {"sgd": (0.02, 0.05, 0.1), "adam": (5e-4, 1e-3, 3e-3), "adamw": (5e-4, 1e-3, 3e-3)}
    grid = list(
        itertools.product(
            ("residual", "plain"),
            ("relu", "gelu", "silu", "tanh"),
            tuple((name, rate) for name in rates for rate in rates[name]),
            (16, 32, 64),
            (640, 960),
        )
    )
    draw.shuffle(grid)
    runs = []
    for number, (architecture, activation, (optimizer, rate), batch, images) in enumerate(grid[:count]):
        runs.append(
            Run(
                architecture=architecture,
                activation=activation,
                optimizer=optimizer,
                lr=rate,
                batch=batch,
                images=images,
                seed=100 + number,
                width=draw.choice((12, 16, 24)),
                weight_decay=draw.choice((0.0, 1e-4, 5e-4))
                if optimizer == "sgd"
                else draw.choice((0.0, 0.01 if optimizer == "adamw" else 1e-4)),
                epochs=draw.choice((4, 5, 7)),
                schedule=draw.choice(("constant", "cosine")),
                warmup=draw.choice((0, 0, 20)),
                augment=draw.random() < 0.3,
                smoothing=draw.choice((0.0, 0.0, 0.1)),
            )
        )
        if draw.random() < 0.2:
            runs[-1] = runs[-1].but(build=_first_frozen, facts={"pretrained": True})
    return runs
