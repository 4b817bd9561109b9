"""The linear head in closed form as the worker calls it: what it fits, chooses, records and weighs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from houndsight.features.extract import Features
from houndsight.models import probe
from houndsight.models.head import make_head
from houndsight.models.network import Network
from houndsight.records.reader import Records
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec, Index, Preprocess, Split
from houndsight.training import linear
from houndsight.training.optim import balanced

CLASSES, WIDTH = 4, 12


def material(*counts: int, spread: float = 1.0) -> tuple[Index, Features]:
    """Overlapping clusters; `counts` training images of each class, 40 validation images of each."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, WIDTH))
    splits, features = {}, {}
    for name, of_each in (("train", counts), ("valid", (40,) * CLASSES)):
        labels = np.repeat(np.arange(CLASSES), of_each)
        features[name] = (centres[labels] + spread * rng.normal(size=(len(labels), WIDTH))).astype(np.float32)
        paths = tuple(f"{name}/{at}.png" for at in range(len(labels)))
        splits[name] = Split(paths=paths, labels=tuple(labels.tolist()), sizes=(1,) * len(labels))
    index = Index.create(root="/data", classes=tuple("abcd"), splits=splits, fingerprint="0" * 64)
    return index, Features(features, "none")  # type: ignore[arg-type]


def network(*hidden: int) -> Network:
    return Network("none", nn.Identity(), make_head(WIDTH, hidden, CLASSES, 0.0, 0), Preprocess())


def lbfgs(**settings: object) -> ClassifierSpec:
    return ClassifierSpec.create(data="-", optimizer="lbfgs", **settings)


def fitted(folder: Path, spec: ClassifierSpec, index: Index, features: Features) -> Network:
    net = network()
    with RecordWriter(folder) as records:
        linear.fit_head(net, features, index, spec, records)
    return net


def recall(net: Network, index: Index, features: Features, label: int) -> float:
    with torch.no_grad():
        called = net(torch.from_numpy(features.splits["valid"])).argmax(1).numpy()
    return float((called[np.array(index.splits["valid"].labels) == label] == label).mean())


def test_the_head_is_the_probe_chosen_on_validation(tmp_path: Path) -> None:
    index, features = material(30, 30, 30, 30)
    net = fitted(tmp_path, lbfgs(), index, features)
    labels = {split: np.array(columns.labels) for split, columns in index.splits.items()}
    found = probe.fit(
        features.splits["train"], labels["train"], CLASSES, valid=(features.splits["valid"], labels["valid"])
    )
    with torch.no_grad():
        logits = net(torch.from_numpy(features.splits["valid"])).numpy()
    np.testing.assert_allclose(logits, found.logits(features.splits["valid"]), atol=1e-5)
    records = Records(tmp_path)
    decays, losses = records.curve("weight_decay")[1], records.curve("loss", "valid")[1]
    assert list(decays) == sorted(decays, reverse=True)
    assert decays[int(np.argmin(losses))] == found.decay == min(found.losses, key=found.losses.__getitem__)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_given_weight_decay_stands(tmp_path: Path, decay: float) -> None:
    index, features = material(30, 30, 30, 30)
    fitted(tmp_path, lbfgs(weight_decay=decay), index, features)
    assert list(Records(tmp_path).curve("weight_decay")[1]) == [decay]


def test_the_start_of_a_training_leaves_its_curves_alone(tmp_path: Path) -> None:
    """Its weight decay is that of the steps, and `loss` on validation is the loss of their epochs."""
    index, features = material(30, 30, 30, 30)
    fitted(tmp_path, ClassifierSpec.create(data="-", head_start="probe", weight_decay=0.02), index, features)
    records = Records(tmp_path)
    assert len(records.curve("probe_weight_decay")[1]) > 1
    assert len(records.curve("probe_loss", "valid")[1]) > 1
    assert len(records.curve("loss", "valid")[1]) == 0


def test_balanced_weights_raise_the_recall_of_the_rare_class(tmp_path: Path) -> None:
    index, features = material(150, 150, 150, 6, spread=2.0)
    found = {
        kind: recall(
            fitted(tmp_path / kind, lbfgs(class_weights=kind, weight_decay=0.1), index, features), index, features, 3
        )
        for kind in ("none", "balanced")
    }
    assert found["balanced"] > found["none"] + 0.1


def test_weights_of_classes_by_hand() -> None:
    weights = balanced(np.array([0, 0, 0, 2], dtype=np.int64), 3)
    assert weights.tolist() == pytest.approx([4 / 9, 0.0, 4 / 3])


def test_a_class_without_training_images_is_no_harm(tmp_path: Path) -> None:
    index, features = material(30, 30, 30, 0)
    net = fitted(tmp_path, lbfgs(class_weights="balanced"), index, features)
    assert all(bool(torch.isfinite(each).all()) for each in net.head.parameters())
    assert recall(net, index, features, 3) == 0.0
