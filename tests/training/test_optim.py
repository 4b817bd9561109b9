"""Optimizer, schedule and loss: what the spec asks for is what torch gets."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from houndsight.errors import SpecError
from houndsight.records.reader import Records
from houndsight.training.optim import balanced_weights, build_loss, build_optimizer, learning_rate
from tests.training import toy
from tests.training.toy import blobs, network, run, separable, spec

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adamw", torch.optim.AdamW, {"eps": 1e-6}),
        ("adam", torch.optim.Adam, {"eps": 1e-6}),
        ("sgd", torch.optim.SGD, {"momentum": 0.5}),
    ],
)
def test_settings_reach_the_optimizer(name: str, kind: type[torch.optim.Optimizer], settings: dict[str, float]) -> None:
    optimizer = build_optimizer(network(), spec(optimizer=name, lr=0.3, weight_decay=0.2, **settings))
    assert type(optimizer) is kind
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.2, 0.0)
    assert all(each.ndim >= 2 for each in decayed["params"])
    assert all(each.ndim < 2 for each in free["params"])
    for group in (decayed, free):
        assert group["lr"] == 0.3
        assert all(group[key] == value for key, value in settings.items())


def test_every_trained_parameter_is_in_one_group() -> None:
    net = network()
    net[0].requires_grad_(False)
    optimizer = build_optimizer(net, spec())
    held = [id(each) for group in optimizer.param_groups for each in group["params"]]
    assert sorted(held) == sorted(id(each) for each in net.parameters() if each.requires_grad)
    with pytest.raises(SpecError, match="nothing is left to train"):
        build_optimizer(net.requires_grad_(False), spec())


def test_a_step_equals_torch_s_own() -> None:
    """One step of each kind without weight decay equals the plain optimizer over all parameters."""
    images, labels = blobs()
    for name, plain in (("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)):
        ours, theirs = network(dropout=0.0), network(dropout=0.0)
        ours[1], theirs[1] = torch.nn.Identity(), torch.nn.Identity()  # a bias before batch norm follows rounding alone
        moves = build_optimizer(ours, spec(optimizer=name, weight_decay=0.0, momentum=0.0))
        other = plain(theirs.parameters(), lr=0.01, weight_decay=0.0)
        for net, optimizer in ((ours, moves), (theirs, other)):
            for _ in range(3):
                functional.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
        for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(one, two, atol=1e-6)


def test_schedules_by_hand() -> None:
    cosine = [learning_rate(spec(lr=1.0, warmup=0.4), step, 10) for step in range(10)]
    assert cosine[:4] == [0.25, 0.5, 0.75, 1.0]
    assert cosine[4] == 1.0
    assert cosine[7] == pytest.approx(0.5)
    assert 0 < cosine[9] < 0.07
    constant = [learning_rate(spec(lr=1.0, warmup=0.1, schedule="constant"), step, 10) for step in range(10)]
    assert constant == [1.0] * 10
    assert learning_rate(spec(lr=1.0, warmup=0.0), 0, 1) == 1.0
    assert learning_rate(spec(lr=1.0, warmup=1.0), 9, 10) == 1.0


def test_the_schedule_reaches_optimizer_and_records(tmp_path: Path) -> None:
    settings = spec(warmup=0.2)
    run(tmp_path, network(), separable(), settings)
    recorded = Records(tmp_path / "records").curve("lr")[1]
    assert list(recorded) == [learning_rate(settings, step, 30) for step in range(30)]


def test_label_smoothing_is_torch_s() -> None:
    logits, labels = torch.randn(8, 4), torch.arange(8) % 4
    loss = build_loss(network(), separable(), spec(label_smoothing=0.2), CPU)
    assert torch.equal(loss(logits, labels), torch.nn.CrossEntropyLoss(label_smoothing=0.2)(logits, labels))


def test_balanced_weights_are_scikit_learn_s() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    images, labels = blobs(60)
    labels = torch.tensor([0] * 40 + [1] * 10 + [2] * 7 + [3] * 3)
    batches = toy.Tensors({"train": (images, labels), "valid": (images, labels)})
    weight = balanced_weights(network(), batches, CPU)
    assert weight.numpy() == pytest.approx(
        compute_class_weight("balanced", classes=torch.arange(4).numpy(), y=labels.numpy())
    )
    logits = torch.randn(60, 4)
    loss = build_loss(network(), batches, spec(class_weights="balanced"), CPU)
    assert torch.equal(loss(logits, labels), functional.cross_entropy(logits, labels, weight=weight))


def test_balanced_weights_raise_the_recall_of_the_rare_class(tmp_path: Path) -> None:
    images, labels = blobs(400, spread=3.0)
    rare = torch.cat([torch.arange(400)[labels == 0], torch.arange(400)[labels == 1][:10]])
    train, valid = (images[rare], labels[rare]), blobs(400, spread=3.0, seed=5)
    recall = {}
    for kind in ("none", "balanced"):
        net = network()
        run(tmp_path / kind, net, toy.Tensors({"train": train, "valid": train}), spec(class_weights=kind))
        with torch.no_grad():
            called = net.eval()(valid[0])[:, :2].argmax(dim=1)
        recall[kind] = float((called[valid[1] == 1] == 1).float().mean())
    assert recall["balanced"] > recall["none"] + 0.1
