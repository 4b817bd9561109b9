"""Every family of networks gives one row of features, in stages, at the sizes it supports."""

import pytest
import torch

from houndsight.errors import ModelError
from houndsight.models import backbones
from houndsight.models.inference import create_backbone

FAMILIES = {
    "alexnet": (4096, 4),
    "convnext_tiny": (768, 9),
    "densenet121": (1024, 8),
    "efficientnet_b0": (1280, 9),
    "efficientnet_v2_s": (1280, 8),
    "googlenet": (1024, 12),
    "inception_v3": (2048, 16),
    "maxvit_t": (512, 6),
    "mnasnet1_0": (1280, 8),
    "mobilenet_v2": (1280, 19),
    "mobilenet_v3_small": (1024, 14),
    "resnet18": (512, 5),
    "resnext50_32x4d": (2048, 5),
    "shufflenet_v2_x1_0": (1024, 5),
    "squeezenet1_1": (512, 9),
    "swin_t": (768, 8),
    "swin_v2_t": (768, 8),
    "vgg11_bn": (4096, 6),
    "vit_b_16": (768, 13),
    "wide_resnet50_2": (2048, 5),
}


def without_memory(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    """The backbone and the shape of its features, with shapes alone."""
    side = backbones.resolve(name).usual.image_size
    with torch.device("meta"):
        network = create_backbone(name, side).eval()
        return network, tuple(network(torch.zeros(2, 3, side, side)).shape)


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision_family(name: str) -> None:
    width, count = FAMILIES[name]
    network, shape = without_memory(name)
    assert shape == (2, width)
    parts = backbones.stages(network)
    assert len(parts) == count
    staged = [id(parameter) for part in parts for parameter in part.parameters]
    assert sorted(staged) == sorted(id(parameter) for parameter in network.parameters())


@pytest.mark.slow
def test_every_torchvision_network() -> None:
    for name in backbones.torchvision_names():
        if not name.startswith("regnet"):  # has no shapes without memory
            network, shape = without_memory(name)
            assert len(shape) == 2, name
            staged = sum(len(part.parameters) for part in backbones.stages(network))
            assert staged == len(list(network.parameters())), name


def test_regnet() -> None:
    backbone = backbones.resolve("regnet_y_400mf")
    network = backbone.create(64, 0)
    assert backbone.count_features(network, 64) == 440
    assert [part.name for part in backbones.stages(network)][:2] == ["stem", "trunk_output.block1"]


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("timm/resnet10t", 512),
        ("timm/mobilenetv3_small_050", 1024),
        ("timm/vit_tiny_patch16_224", 192),
        ("timm/convnext_atto", 320),
        ("timm/test_efficientnet", 256),
        ("timm/levit_128s", 384),
        ("timm/mixer_s32_224", 512),
        ("timm/deit_tiny_distilled_patch16_224", 192),
    ],
)
def test_timm_families_at_another_size(name: str, width: int) -> None:
    backbone = backbones.resolve(name)
    network = backbone.create(96, 0)
    assert backbone.count_features(network, 96) == width
    parts = backbones.stages(network)
    assert sum(len(part.parameters) for part in parts) == len(list(network.parameters()))
    assert len(parts) >= 4


def test_stages_of_a_resnet() -> None:
    parts = backbones.stages(create_backbone("resnet18"))
    assert [part.name for part in parts] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert len(parts[0].parameters) == 3


def test_class_token_and_positions_belong_to_the_first_stage() -> None:
    with torch.device("meta"):
        network = create_backbone("vit_b_32")
    first = {id(parameter) for parameter in backbones.stages(network)[0].parameters}
    assert {id(network.get_parameter("class_token")), id(network.get_parameter("encoder.pos_embedding"))} <= first


def test_torchvision_comes_first_and_a_prefix_decides() -> None:
    assert backbones.resolve("resnet18").library == "torchvision"
    assert backbones.resolve("timm/resnet18").name == "timm/resnet18"
    assert backbones.resolve("resnet10t").name == "timm/resnet10t"
    assert backbones.resolve("resnet18.a1_in1k").name == "timm/resnet18.a1_in1k"
    assert backbones.resolve("resnet50.IMAGENET1K_V2").name == "resnet50.IMAGENET1K_V2"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnt18", "resnet18"),
        ("mobilnet_v2", "mobilenet_v2"),
        ("timm/convnxt_atto", "convnext_atto"),
        ("resnet18.foo", "IMAGENET1K_V1"),
        ("timm/resnet18.foo", "a1_in1k"),
        ("hf-hub:someone/resnet18", ""),
        ("timm/../x", "Try"),
        ("", "Try"),
    ],
)
def test_unknown_names(name: str, told: str) -> None:
    with pytest.raises(ModelError) as caught:
        backbones.resolve(name)
    assert told in caught.value.repair


def test_preprocess_is_that_of_the_weights() -> None:
    resnet50 = backbones.resolve("resnet50")
    assert [each.preprocess.resize for each in resnet50.published] == [232, 256]
    assert resnet50.usual.resize == 256
    timm = backbones.resolve("timm/vit_tiny_patch16_224").usual
    assert (timm.mean, timm.interpolation, timm.resize) == ((0.5, 0.5, 0.5), "bicubic", 248)
    assert backbones.resolve("googlenet").usual.mean == (0.5, 0.5, 0.5)


def test_another_image_size_scales_the_resize() -> None:
    backbone = backbones.resolve("resnet18")
    assert backbone.preprocess(None, 112).resize == 128
    assert backbone.preprocess(None, 224) == backbone.usual
    assert backbones.resolve("maxvit_t").preprocess(None, 448).resize == 448


@pytest.mark.parametrize(("name", "side"), [("vit_b_32", 100), ("maxvit_t", 100), ("alexnet", 32), ("densenet121", 16)])
def test_a_size_that_the_network_refuses(name: str, side: int) -> None:
    backbone = backbones.resolve(name)
    with pytest.raises(ModelError, match=f"{side} x {side}") as caught:
        backbone.count_features(backbone.create(side, 0), side)
    assert "224" in caught.value.repair


def test_random_weights_are_seeded_and_leave_torch_as_it_was() -> None:
    backbone = backbones.resolve("squeezenet1_1")
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second, third = (backbone.create(64, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["features.0.weight"], third["features.0.weight"])


def test_googlenet_needs_no_transform_of_its_own() -> None:
    """torchvision's transform_input equals normalising with 0.5 and 0.5 from the start."""
    from torchvision import models

    theirs = models.googlenet(weights=None, init_weights=False, aux_logits=False, transform_input=True)
    images = torch.rand(2, 3, 8, 8)
    usual = backbones.resolve("resnet18").usual
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (usual.mean, usual.std))
    transformed = theirs._transform_input((images - mean) / std)
    torch.testing.assert_close(transformed, (images - 0.5) / 0.5)


@pytest.mark.parametrize(
    ("name", "ordinary"),
    [
        ("resnet18", True),
        ("vit_h_14", False),
        ("timm/convnext_atto", True),
        ("timm/convnextv2_atto", False),
        ("timm/vit_small_patch16_dinov3", False),
        ("timm/dla60_res2net", True),
    ],
)
def test_licences(name: str, ordinary: bool) -> None:
    assert backbones.resolve(name).published[0].ordinary_use is ordinary
