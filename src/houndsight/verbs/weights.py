"""The cache of pretrained weights: list, add a file, fetch published ones; training and scripts share it."""

from pathlib import Path

from houndsight.models import weights
from houndsight.models.weights import WeightsFile
from houndsight.workspace import Progress


def list_weights() -> list[WeightsFile]:
    """The weights at hand, by name."""
    return weights.list_weights()


def add_weights(file: str | Path, name: str | None = None) -> Path:
    """Take a file into the cache as the weights of the backbone `name`, after trying that they fit; its new path.

    Without a name it is taken as what its own says, such as resnet50-0676ba61.pth, where its hash agrees. Raises
    `ModelError` for a file that cannot be read or does not fit.
    """
    return weights.take(file) if name is None else weights.add(file, name)


def fetch_weights(name: str, *, progress: Progress | None = None) -> Path:
    """Download the published weights of the backbone `name`, unless they are at hand; their path.

    Raises `ModelError` with the ways out where there is no network.
    """
    return weights.fetch(name, progress)
