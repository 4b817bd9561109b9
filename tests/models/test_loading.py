"""Weights files of every kind: what is loaded, what is left, what is refused, and that nothing in them is run."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from houndsight.errors import ModelError
from houndsight.models.backbones import Backbone, resolve
from houndsight.models.loading import Loaded, State, load_into, read_state


def published(name: str, outputs: int = 1000) -> State:
    """A state dict as torchvision publishes it, classifier and all."""
    from torchvision import models

    torch.manual_seed(3)
    network: torch.nn.Module = models.get_model(name, weights=None, num_classes=outputs)
    return dict(network.state_dict())


def put(state: State, name: str, size: int = 64) -> tuple[Loaded, torch.nn.Module, Backbone]:
    backbone = resolve(name)
    network = backbone.create(size, 0)
    return load_into(network, backbone, state, image_size=size, seed=0, where="file.pth"), network, backbone


@pytest.fixture(scope="module")
def squeezenet() -> State:
    return published("squeezenet1_1")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model": state},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"model_state_dict": {f"_orig_mod.module.{name}": t for name, t in state.items()}},
        lambda state: {**{f"backbone.{name}": t for name, t in state.items()}, "head.1.weight": torch.ones(7, 512)},
    ],
)
def test_wrappers_and_prefixes(squeezenet: State, tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(squeezenet), tmp_path / "file.pth")
    loaded, network, _ = put(read_state(tmp_path / "file.pth"), "squeezenet1_1")
    assert loaded.missing == ()
    assert torch.equal(network.get_parameter("features.0.weight"), squeezenet["features.0.weight"])


def test_safetensors_and_legacy_torch_files(squeezenet: State, tmp_path: Path) -> None:
    save_file(squeezenet, tmp_path / "a.safetensors")
    torch.save(OrderedDict(squeezenet), tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    for file in ("a.safetensors", "b.pt"):
        state = read_state(tmp_path / file)
        assert torch.equal(state["features.0.weight"], squeezenet["features.0.weight"])


def test_the_former_classifier_is_left_and_said(squeezenet: State) -> None:
    loaded, _, _ = put(squeezenet, "squeezenet1_1")
    assert loaded.count == 50
    assert len(loaded.left) == 2
    assert "1000 outputs" in loaded.left[0]


def test_weights_tuned_for_other_classes_fit() -> None:
    loaded, _, _ = put(published("resnet18", outputs=133), "resnet18")
    assert loaded.count == 120
    assert "133 outputs" in loaded.left[0]


def test_half_precision_becomes_float32(squeezenet: State) -> None:
    _, network, _ = put({name: tensor.half() for name, tensor in squeezenet.items()}, "squeezenet1_1")
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_old_densenet_names() -> None:
    state = published("densenet121")
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    for part in ("norm", "conv"):
        old = {
            name.replace(f".{part}1.", f".{part}.1.").replace(f".{part}2.", f".{part}.2."): t for name, t in old.items()
        }
    assert any(".norm.1." in name for name in old)
    loaded, network, _ = put(old, "densenet121")
    assert loaded.missing == ()
    name = "features.denseblock1.denselayer1.norm1.weight"
    assert torch.equal(network.get_parameter(name), state[name])


def test_mnasnet_whose_version_numbers_are_lost(tmp_path: Path) -> None:
    save_file(published("mnasnet0_5"), tmp_path / "mnasnet.safetensors")
    loaded, _, _ = put(read_state(tmp_path / "mnasnet.safetensors"), "mnasnet0_5")
    assert loaded.missing == ()


def test_auxiliary_classifiers_are_left() -> None:
    from torchvision import models

    state = dict(models.googlenet(weights=None, init_weights=False, aux_logits=True).state_dict())
    loaded, _, _ = put(state, "googlenet")
    assert loaded.missing == ()
    assert any("auxiliary" in why for why in loaded.left)


def test_positions_of_a_vision_transformer_are_interpolated() -> None:
    state = published("vit_b_32")
    loaded, network, _ = put(state, "vit_b_32", size=96)
    assert loaded.missing == ()
    assert network.get_parameter("encoder.pos_embedding").shape == (1, 10, 768)


@pytest.mark.slow
def test_timm_translates_what_it_knows() -> None:
    """An image size of its own makes timm resample the positions; old names of the first layers are its business."""
    import timm

    torch.manual_seed(1)
    source = timm.create_model("test_vit", pretrained=False)
    loaded, network, _ = put(dict(source.state_dict()), "timm/test_vit", size=96)
    assert loaded.missing == ()
    assert torch.equal(
        network.get_parameter("blocks.0.attn.qkv.weight"), source.get_parameter("blocks.0.attn.qkv.weight")
    )
    assert any(why.startswith("head.weight") for why in loaded.left)
    same, _, _ = put(dict(source.state_dict()), "timm/test_vit", size=160)
    assert same.count == loaded.count


@pytest.mark.parametrize(
    ("weights", "backbone", "guess"),
    [
        ("squeezenet1_1", "resnet18", "squeezenet1_1"),
        ("resnet18", "resnet34", "resnet18"),
        ("resnet34", "resnet18", "resnet34"),
        ("resnet50", "wide_resnet50_2", "resnet50"),
        ("resnet18", "timm/test_resnet", "resnet18"),
    ],
)
def test_weights_of_another_architecture(weights: str, backbone: str, guess: str) -> None:
    with pytest.raises(ModelError, match=r"do not fit .* tensors are in it") as caught:
        put(published(weights), backbone)
    assert f"--backbone {guess}." in caught.value.repair


def test_numbers_that_are_not_finite(squeezenet: State) -> None:
    broken = {**squeezenet, "features.0.weight": torch.full_like(squeezenet["features.0.weight"], torch.nan)}
    with pytest.raises(ModelError, match="not finite"):
        put(broken, "squeezenet1_1")


# ---------------------------------------------------------------------------------------- refused files


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("how", ["torch", "pickle", "inside a state dict"])
def test_nothing_in_a_pickle_is_run(tmp_path: Path, how: str) -> None:
    proof, file = tmp_path / "proof", tmp_path / "file.pth"
    if how == "torch":
        torch.save(Attack(proof), file)
    elif how == "pickle":
        file.write_bytes(pickle.dumps(Attack(proof)))
    else:
        torch.save({"state_dict": {"weight": torch.zeros(1), "other": Attack(proof)}}, file)
    with pytest.raises(ModelError, match="refused"):
        read_state(file)
    assert not proof.exists()


def test_a_whole_module(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(ModelError, match="more than tensors") as caught:
        read_state(tmp_path / "model.pth")
    assert "state_dict()" in caught.value.repair


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_torchscript_program(tmp_path: Path) -> None:
    traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="TorchScript"):
        read_state(tmp_path / "model.pt")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><html>not found</html>",
        b"\x80\x02",
        b"PK\x03\x04" + b"\0" * 50,
        os.urandom(4096),
        b"0" * 9,
    ],
    ids=["empty", "html", "pickle start", "zip start", "noise", "digits"],
)
def test_rubbish(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"file{suffix}"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="file"):
        read_state(file)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(squeezenet: State, tmp_path: Path, suffix: str, kept: float) -> None:
    file = tmp_path / f"file{suffix}"
    if suffix == ".pth":
        torch.save(squeezenet, file)
    else:
        save_file(squeezenet, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ModelError):
        read_state(file)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(3), {}, "text", {"state_dict": {"lr": 0.1}}])
def test_files_without_named_tensors(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ModelError, match="no tensors by name"):
        read_state(tmp_path / "file.pth")


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "resnet18.pth").write_bytes(b"x")
    with pytest.raises(ModelError, match="does not exist") as caught:
        read_state(tmp_path / "resnt18.pth")
    assert "resnet18.pth" in caught.value.repair
    with pytest.raises(ModelError, match="is a folder"):
        read_state(tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        read_state(tmp_path / "no" / "where.pth")
