"""The soup: what is averaged, what is left out, and that the first model is always in."""

from pathlib import Path

import numpy as np
import pytest
import torch

from houndsight.data.loader import Batch
from houndsight.errors import ModelError
from houndsight.models import artifact, network
from houndsight.models.network import Network
from houndsight.results import ModelCard
from houndsight.spec import ClassifierSpec
from houndsight.training import soup

CLASSES = ("a", "b", "c")


class Rows:
    """Validation features whose right class is their largest of three numbers."""

    def __init__(self, features: torch.Tensor) -> None:
        self._features, self.steps_per_epoch = features, 1

    def evaluate(self, _split: str) -> list[Batch]:
        """All rows at once."""
        labels = self._features[:, :3].argmax(1)
        return [Batch(self._features, labels, torch.arange(len(labels)))]


def model(folder: Path, name: str, head: torch.Tensor, seed: int = 0) -> str:
    """An artifact of a small network with the given head (3, 512)."""
    spec = ClassifierSpec(data="-", backbone="resnet18", weights="none", image_size=32, seed=seed)
    built = network.build(spec, 3)
    with torch.no_grad():
        layer = next(each for each in built.network.head.modules() if isinstance(each, torch.nn.Linear))
        layer.weight.copy_(head)
        layer.bias.zero_()
    card = ModelCard(classes=CLASSES, preprocess=built.network.preprocess, backbone=built.network.name)
    artifact.save(folder / name / "model", built.network, card, np.zeros((1, 32, 32, 3), np.uint8))
    return str(folder / name / "model")


def weight(net: Network) -> torch.Tensor:
    """Weights of the head."""
    return next(each for each in net.head.modules() if isinstance(each, torch.nn.Linear)).weight.detach()


def test_a_soup_takes_what_helps_and_leaves_the_rest(tmp_path: Path) -> None:
    features = torch.rand(200, 512, generator=torch.Generator().manual_seed(0))
    truth = torch.zeros(3, 512)
    truth[0, 0] = truth[1, 1] = truth[2, 2] = 10.0
    noise = torch.zeros(3, 512)
    noise[:, 5] = torch.tensor([6.0, 0.0, -6.0])
    good, mirror = model(tmp_path, "good", truth + noise), model(tmp_path, "mirror", truth - noise)
    bad, other = model(tmp_path, "bad", -truth), model(tmp_path, "other", truth, seed=1)
    spec = ClassifierSpec(data="-", soup=(good, bad, mirror, other), freeze="all", monitor="accuracy", device="cpu")
    net = network.build(ClassifierSpec(data="-", backbone="resnet18", weights="none", image_size=32, seed=9), 3).network
    soup.begin(net, spec)
    kept = soup.mix(net, Rows(features), spec, stop=lambda: False)  # type: ignore[arg-type]
    assert kept == [good, mirror]  # the bad one worsens it, the other one has another backbone
    assert torch.equal(weight(net), truth)
    alone = spec.model_copy(update={"soup": (bad,)})
    assert soup.mix(net, Rows(features), alone, stop=lambda: False) == [bad]  # type: ignore[arg-type]
    wide = network.build(ClassifierSpec(data="-", backbone="resnet18", weights="none", image_size=32), 4).network
    with pytest.raises(ModelError, match="another network"):
        soup.mix(wide, Rows(features), alone, stop=lambda: False)  # type: ignore[arg-type]
