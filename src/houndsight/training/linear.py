"""The head in closed form as a training of its own: cached features go in, the network's head comes out fitted."""

import logging
import time

import numpy as np
import torch
from torch import nn

from houndsight.features.extract import Features
from houndsight.models import probe
from houndsight.models.network import Network
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec, Index
from houndsight.training.loop import Fitted
from houndsight.training.optim import balanced

log = logging.getLogger("houndsight")


def fit_head(network: Network, features: Features, index: Index, spec: ClassifierSpec, records: RecordWriter) -> Fitted:
    """Fit the linear head on the training features; the weight decay is the spec's, or chosen on validation.

    Records `weight_decay` and the calibrated validation `loss` of each fit, from the strongest decay on; where a
    training in steps follows they are `probe_weight_decay` and `probe_loss`, for `loss` is then that training's.
    """
    began = time.perf_counter()
    labels = {split: np.array(columns.labels, dtype=np.int64) for split, columns in index.splits.items()}
    weights = balanced(labels["train"], len(index.classes)) if spec.class_weights == "balanced" else None
    alone = spec.optimizer == "lbfgs"
    given = alone and spec.weight_decay is not None
    found = probe.fit(
        features.splits["train"],
        labels["train"],
        len(index.classes),
        valid=(features.splits["valid"], labels["valid"]),
        decays=(float(spec.weight_decay or 0.0),) if given else probe.DECAYS,
        class_weights=weights,
    )
    prefix = "" if alone else "probe_"
    for number, (decay, loss) in enumerate(sorted(found.losses.items(), reverse=True)):
        records.scalar(f"{prefix}weight_decay", decay, step=number)
        records.scalar(f"{prefix}loss", loss, step=number, mode="valid")
    set_head(network, found)
    right = float((found.logits(features.splits["valid"]).argmax(1) == labels["valid"]).mean())
    log.info("Linear head: weight decay %g of %d tried, %.2f %% of the validation images right.",
             found.decay, len(found.losses), 100 * right)  # fmt: skip
    return Fitted(steps=len(found.losses), epochs=0, best_epoch=0, stopped=False, seconds=time.perf_counter() - began)


def set_head(network: Network, fitted: probe.Probe) -> None:
    """Give the last layer of the head the fitted weights; a head with hidden layers is refused as our own mistake."""
    layers = [each for each in network.head.modules() if isinstance(each, nn.Linear)]
    assert len(layers) == 1, "the closed-form fit is of a linear head"
    with torch.no_grad():
        layers[0].weight.copy_(torch.from_numpy(fitted.weight))
        layers[0].bias.copy_(torch.from_numpy(fitted.bias))
