"""The weights of several trained models averaged into one where validation gains by it; stands in for the loop.

Greedy soup (Wortsman et al., ICML 2022): models that began from the same weights often lie in one basin, where the mean
of their weights is as good as an ensemble of them and costs no more than one.
"""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from houndsight.backends.base import Stopped
from houndsight.data.loader import Batches
from houndsight.errors import ModelError
from houndsight.models import artifact
from houndsight.models.network import Network
from houndsight.spec import ClassifierSpec
from houndsight.training.device import choose_device, settled
from houndsight.training.loop import Verdict, validate

log = logging.getLogger("houndsight")

State = dict[str, torch.Tensor]


def begin(network: Network, spec: ClassifierSpec) -> None:
    """Give `network` the weights of the first artifact of a soup, before features are made with its backbone."""
    if spec.soup:
        _give(network, _weights(Path(spec.soup[0]), network), 1)


def mix(network: Network, batches: Batches, spec: ClassifierSpec, *, stop: Callable[[], bool]) -> list[str]:
    """Give `network` the mean weights of those of `spec.soup` that make it better, and return their paths.

    The first is always in; another one stays in where the monitored validation value improves, the other of loss and
    accuracy deciding between equal ones. Raises `ModelError` for an artifact of another network or of other classes,
    `Stopped` where `stop` says so.
    """
    device = choose_device(spec.device)
    with settled(spec, device):
        network.to(device)
        total: State = {}
        best: Verdict | None = None
        kept: list[str] = []
        for path in spec.soup:
            weights = _weights(Path(path), network)
            if spec.freeze == "all" and not _same_backbone(network, weights):
                log.info("%s has another backbone and is left out.", Path(path).parent.name)
                continue
            trial = {name: total[name] + each for name, each in weights.items()} if kept else weights
            _give(network, trial, len(kept) + 1)
            verdict = validate(network, batches, nullcontext(), stop)
            if verdict is None:
                raise Stopped
            better = best is None or _rank(verdict, spec) > _rank(best, spec)
            said = "With" if kept else "From"
            name = Path(path).parent.name
            log.info("%s %s: loss %.4f, accuracy %.2f %%.", said, name, verdict.loss, 100 * verdict.accuracy)
            if better:
                total, best = trial, verdict
                kept.append(path)
        _give(network, total, len(kept))
    log.info("The weights of %d of %d models are averaged.", len(kept), len(spec.soup))
    return kept


def _rank(verdict: Verdict, spec: ClassifierSpec) -> tuple[float, float]:
    """Larger is better."""
    pair = (verdict.accuracy, -verdict.loss)
    return pair if spec.monitor == "accuracy" else pair[::-1]


def _weights(path: Path, network: Network) -> State:
    """All weights of an artifact in float64, in which the sum of equal numbers divides back to the same number."""
    found = artifact.load(path).network.state_dict()
    mine = {name: each.shape for name, each in network.state_dict().items()}
    if {name: each.shape for name, each in found.items()} != mine:
        raise ModelError(f"The model in {path} is another network than the others of the soup.", "Leave it out.")
    return {name: each.double() if each.is_floating_point() else each for name, each in found.items()}


def _same_backbone(network: Network, weights: State) -> bool:
    """Whether features of the network's backbone are those of the artifact's."""
    return all(torch.equal(each.cpu().to(weights[f"backbone.{name}"].dtype), weights[f"backbone.{name}"])
               for name, each in network.backbone.state_dict().items())  # fmt: skip


def _give(network: Network, total: State, count: int) -> None:
    with torch.no_grad():
        for name, each in network.state_dict().items():
            each.copy_(total[name] / count if each.is_floating_point() else total[name])
