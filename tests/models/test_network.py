"""What is built from a spec: frozen as far as asked, seeded, said, and fit for tracing and export."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from houndsight.errors import ModelError
from houndsight.models.head import make_head
from houndsight.models.network import Built, Network, build, fix_batch_norm
from houndsight.spec import ClassifierSpec


def made(classes: int = 5, **settings: Any) -> Built:
    return build(ClassifierSpec(**{"data": "x", "weights": "none", "image_size": 32, **settings}), classes)


@pytest.fixture(scope="module")
def resnet() -> Network:
    return made().network


def images(count: int = 3, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def test_images_and_features_give_the_same_logits(resnet: Network) -> None:
    resnet.eval()
    with torch.inference_mode():
        logits = resnet(images())
        assert logits.shape == (3, 5)
        torch.testing.assert_close(resnet(resnet.features(images())), logits)


def test_normalisation_is_the_usual_one(resnet: Network) -> None:
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (resnet.preprocess.mean, resnet.preprocess.std))
    floats = (images().float() / 255 - mean) / std
    resnet.eval()
    with torch.inference_mode():
        torch.testing.assert_close(resnet.features(floats), resnet.features(images()), rtol=1e-4, atol=1e-5)


def test_channels_last_is_kept(resnet: Network) -> None:
    seen: list[bool] = []
    first = resnet.backbone.get_submodule("conv1")
    hook = first.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    with torch.inference_mode():
        resnet.eval()(images().contiguous(memory_format=torch.channels_last))
    hook.remove()
    assert seen == [True]


def test_normalisation_is_not_stored(resnet: Network) -> None:
    assert {name.split(".")[0] for name in resnet.state_dict()} == {"backbone", "head"}


# ------------------------------------------------------------------------------------------- freezing


def test_freeze_all_trains_the_head_alone() -> None:
    network = made(freeze="all", hidden=(8,), dropout=0.5).network
    assert len(network.trainable()) == 4
    before = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    network.train()
    network(images()).sum().backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in network.backbone.parameters())
    assert network.head.training
    assert not any(module.training for module in network.backbone.modules())


def test_freeze_two_stages() -> None:
    network = made(freeze=2).network.train()
    frozen = {name.split(".")[0] for name, p in network.backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    modes = {name: module.training for name, module in network.backbone.named_children()}
    assert [modes[name] for name in ("bn1", "layer1", "layer2")] == [False, False, True]
    before = network.get_buffer("backbone.bn1.running_mean").clone()
    network(images())
    assert torch.equal(before, network.get_buffer("backbone.bn1.running_mean"))
    assert not torch.equal(torch.zeros(128), network.get_buffer("backbone.layer2.0.bn1.running_mean"))


@pytest.mark.parametrize("freeze", ["none", 0])
def test_freeze_nothing(freeze: Any) -> None:
    network = made(freeze=freeze).network
    assert len(network.trainable()) == len(list(network.parameters()))
    assert all(module.training for module in network.train().modules())


def test_frozen_dropout_is_off() -> None:
    network = made(backbone="vgg11", freeze="all").network.train()
    with torch.inference_mode():
        torch.testing.assert_close(network(images()), network(images()))


def test_fixed_batch_norm_keeps_its_statistics_and_learns() -> None:
    network = made(freeze="none").network
    fix_batch_norm(network)
    network.train()
    modes = {name: module.training for name, module in network.backbone.named_modules()}
    assert [modes[name] for name in ("bn1", "layer2.0.bn1", "layer2")] == [False, False, True]
    before = network.get_buffer("backbone.bn1.running_mean").clone()
    network(images()).sum().backward()
    assert torch.equal(network.get_buffer("backbone.bn1.running_mean"), before)
    assert network.get_parameter("backbone.bn1.weight").grad is not None


def test_more_stages_than_there_are() -> None:
    with pytest.raises(ModelError, match=r"5 stages \(stem, layer1, .*; 6 of them") as caught:
        made(freeze=6)
    assert "0 to 5" in caught.value.repair


def test_a_timm_network_is_frozen_too() -> None:
    network = made(backbone="timm/test_vit", freeze=3).network.train()
    assert not network.get_parameter("backbone.pos_embed").requires_grad
    assert not network.get_submodule("backbone.blocks.0").training
    assert network.get_submodule("backbone.blocks.4").training


# --------------------------------------------------------------------------------------------- seeds


def test_the_same_seed_gives_the_same_network_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    first = made(seed=4, hidden=(6,)).network.state_dict()
    torch.rand(11)
    state = torch.get_rng_state()
    second = made(seed=4, hidden=(6,)).network.state_dict()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    third = made(seed=5, hidden=(6,)).network.state_dict()
    assert not torch.equal(first["head.1.weight"], third["head.1.weight"])


def test_the_head() -> None:
    head = make_head(16, (8, 4), 3, 0.25, 0)
    assert [type(layer) for layer in head] == [nn.Dropout, nn.Linear, nn.ReLU] * 2 + [nn.Dropout, nn.Linear]
    assert head(torch.zeros(2, 16)).shape == (2, 3)
    assert not head.get_parameter("1.weight").is_meta
    weight = make_head(10_000, (), 50, 0.0, 0).get_parameter("1.weight").detach()
    assert float(weight.abs().max()) <= 0.01
    np.testing.assert_allclose(float(weight.std()), 0.01 / np.sqrt(3), rtol=0.01)


# ------------------------------------------------------------------------------- tracing and exporting


@pytest.mark.parametrize("backbone", ["resnet18", "timm/test_vit"])
def test_export(backbone: str) -> None:
    network = made(backbone=backbone).network.eval()
    program = torch.export.export(network, (images(),)).module()
    with torch.inference_mode():
        torch.testing.assert_close(program(images()), network(images()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_trace_holds_for_another_batch(resnet: Network) -> None:
    resnet.eval()
    with torch.inference_mode():
        traced = torch.jit.trace(resnet, images(2))  # type: ignore[no-untyped-call]
        torch.testing.assert_close(traced(images(5)), resnet(images(5)))


def test_compiled_graph_is_whole(resnet: Network) -> None:
    resnet.eval()
    compiled = torch.compile(resnet, backend="eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(images()), resnet(images()))


# ------------------------------------------------------------------------------------------- weights


@pytest.mark.assets
def test_what_was_loaded_is_said(assets: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = assets / "weights" / "squeezenet1_0-imagenet-deepcompression.pth"
    with caplog.at_level(logging.INFO, "houndsight"):
        built = made(backbone="squeezenet1_0", weights=str(weights), image_size=64)
    assert (built.loaded, len(built.left), built.missing, built.licence) == (50, 2, (), "unknown")
    assert "3a51fb3b1523" in built.source
    assert "1000 outputs" in caplog.text
    assert str(assets) not in built.source


@pytest.mark.assets
def test_wrong_weights(assets: Path) -> None:
    with pytest.raises(ModelError, match="0 of its 100 tensors") as caught:
        made(weights=str(assets / "weights" / "squeezenet1_0-imagenet-deepcompression.pth"))
    assert "squeezenet1_0" in caught.value.repair


@pytest.mark.assets
def test_pretrained_features_tell_breeds_apart(assets: Path) -> None:
    """The nearest class mean in feature space, five breeds, ten images for each mean: far better than chance."""
    from houndsight.data import images as pictures

    built = build(
        ClassifierSpec(
            data="x",
            backbone="mobilenet_v2",
            weights=str(assets / "weights" / "mobilenet_v2-imagenet-dequantized.pth"),
            image_size=128,
        ),
        5,
    )
    network = built.network.eval()
    folders = sorted((assets / "data" / "dogs" / "train").iterdir())[:40:8]
    rows = []
    for folder in folders:
        files = sorted(folder.iterdir())[:14]
        squares = [pictures.fit_to(pictures.decode(file.read_bytes()), network.preprocess) for file in files]
        with torch.inference_mode():
            rows.append(network.features(torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)).numpy())
    features = np.stack([each / np.linalg.norm(each, axis=1, keepdims=True) for each in rows])
    means = features[:, :10].mean(1)
    guesses = (features[:, 10:] @ means.T).argmax(-1)
    assert (guesses == np.arange(5)[:, None]).mean() >= 0.8
