"""Layer-wise learning rates: each stage its share, every parameter once, the same share at each step."""

import pytest
import torch

from houndsight.models.backbones import stages
from houndsight.models.network import Network, build, freeze_stages
from houndsight.spec import ClassifierSpec
from houndsight.training.optim import build_optimizer, learning_rate, rates, set_learning_rate


def built(backbone: str = "squeezenet1_1", **settings: object) -> tuple[Network, ClassifierSpec]:
    spec = ClassifierSpec.create(
        data="-", backbone=backbone, weights="none", image_size=32, lr=0.1, freeze="none", steps=10, **settings
    )
    return build(spec, 10).network, spec


@pytest.mark.parametrize("backbone", ["squeezenet1_1", "resnet18", "shufflenet_v2_x0_5"])
def test_every_parameter_once_and_each_stage_its_share(backbone: str) -> None:
    network, _ = built(backbone)
    found = rates(network, 0.5)
    held = [id(each) for _, parameters in found for each in parameters]
    assert sorted(held) == sorted(map(id, network.parameters()))
    scales = [scale for scale, _ in found]
    assert scales == [0.5 ** (len(found) - 1 - at) for at in range(len(found))]
    assert {id(each) for each in found[-1][1]} == {id(each) for each in network.head.parameters()}
    assert {id(each) for each in found[0][1]} == {id(each) for each in stages(network.backbone)[0].parameters}
    assert [scale for scale, _ in rates(network, 1.0)] == [1.0]


def test_the_schedule_reaches_each_group_at_its_share() -> None:
    network, spec = built("resnet18", layer_decay=0.75, warmup=0.2)
    optimizer = build_optimizer(network, spec)
    for step in range(10):
        lr = learning_rate(spec, step, 10)
        set_learning_rate(optimizer, lr)
        assert {group["lr"] for group in optimizer.param_groups} == {lr * scale for scale, _ in rates(network, 0.75)}


def test_one_step_moves_each_stage_by_its_share() -> None:
    network, spec = built(layer_decay=0.5, optimizer="sgd", momentum=0.0, weight_decay=0.0)
    optimizer = build_optimizer(network, spec)
    before = [each.detach().clone() for each in network.parameters()]
    for each in network.parameters():
        each.grad = torch.ones_like(each)
    set_learning_rate(optimizer, 0.1)
    optimizer.step()
    scale = {id(each): share for share, parameters in rates(network, 0.5) for each in parameters}
    for was, each in zip(before, network.parameters(), strict=True):
        assert torch.allclose(was - each, torch.full_like(was, 0.1 * scale[id(each)]), atol=1e-6)


def test_frozen_stages_have_no_group() -> None:
    network, spec = built("resnet18", layer_decay=0.5)
    freeze_stages(network, 2)
    optimizer = build_optimizer(network, spec)
    held = [id(each) for group in optimizer.param_groups for each in group["params"]]
    assert sorted(held) == sorted(map(id, network.trainable()))
    assert min(group["scale"] for group in optimizer.param_groups) == 0.5 ** (len(stages(network.backbone)) - 2)
