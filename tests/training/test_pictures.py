"""Grad-CAM: the map of what spoke for a class lies where the only evidence lies; networks without a map have none."""

import numpy as np
import torch
from torch import nn

from houndsight.models.network import Network
from houndsight.spec import Preprocess
from houndsight.training import pictures

SIDE = 64


class Mean(nn.Module):
    """(B, C, H, W) -> (B, C)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(2, 3))


def network(*layers: nn.Module, features: int) -> Network:
    head = nn.Linear(features, 3)
    with torch.no_grad():
        head.weight.copy_(torch.ones(3, features))
    preprocess = Preprocess(image_size=SIDE, resize=SIDE)
    return Network("made up", nn.Sequential(*layers), head, preprocess)


def test_the_map_is_warm_where_the_evidence_is() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 16, 8, stride=8)
    with torch.no_grad():
        convolution.weight.fill_(0.01)
        convolution.bias.zero_()  # type: ignore[union-attr]
    net = network(convolution, nn.ReLU(inplace=True), Mean(), features=16)
    place = pictures.last_map(net, SIDE)
    assert place is not None
    views = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    views[0, 8:16, 40:48] = 255
    views[1, 56:64, 0:8] = 255
    heat = pictures.grad_cam(net, place, views, [0, 2])
    assert heat.shape == (2, 8, 8)
    assert [np.unravel_index(each.argmax(), each.shape) for each in heat] == [(1, 5), (7, 0)]
    assert heat.max() == 1
    picture = pictures.overlaid(views[0], heat[0])
    assert picture.startswith(b"\xff\xd8\xff")


def test_a_network_that_sees_no_map_in_its_later_half_is_left_out() -> None:
    patches = nn.Conv2d(3, 16, 16, stride=16)
    late = [nn.Linear(16, 16) for _ in range(6)]
    assert pictures.last_map(network(patches, Mean(), *late, features=16), SIDE) is None
