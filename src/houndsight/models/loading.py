"""From a weights file to a backbone that holds it: read without running anything, matched by name and shape, reported.

A file fits when nine tenths of the backbone's tensors are in it under their names and with their shapes, none has
another shape, and it holds little else but a classifier; anything less is another architecture and is refused.
"""

import hashlib
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from houndsight.errors import ModelError, did_you_mean
from houndsight.models.backbones import Backbone, torchvision_names
from houndsight.models.inference import create_backbone

State = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "params")
_PREFIXES = ("module.", "_orig_mod.", "model.")  # data-parallel, compiled and wrapped models prefix everything
_OURS = ("backbone.", "head.")  # our own artifacts
_CLASSIFIERS = re.compile(r"(fc|classifier|heads?|head_dist|last_linear|AuxLogits|aux[12]?)\b")
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")
_ENOUGH = 0.9


@dataclass(frozen=True)
class Loaded:
    """What became of a weights file."""

    count: int
    """Tensors of the backbone that came from the file."""
    left: tuple[str, ...]
    """What the file holds beside them, and why it was left."""
    missing: tuple[str, ...]
    """Tensors of the backbone that the file lacks; they keep their random weights."""


def file_sha256(path: Path) -> str:
    """Hex digest of the file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------------------------------- read


def read_state(path: Path) -> State:
    """The tensors of a .pth, .pt or .safetensors file by name, out of whatever they are wrapped in.

    Raises `ModelError` where there is no such file, where it is broken, and where it holds more than tensors.
    """
    if not path.is_file():
        near = did_you_mean(path.name, [each.name for each in path.parent.iterdir()]) if path.parent.is_dir() else ""
        what = "is a folder, not a weights file" if path.is_dir() else "does not exist"
        raise ModelError(f"The weights file {path} {what}.", near or "Give a .pth or .safetensors file.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state = _unwrap(content)
    if not state:
        raise ModelError(f"{path} holds no tensors by name.", "A state_dict is needed: " + _HOW_TO_SAVE)
    return state


_HOW_TO_SAVE = "torch.save(model.state_dict(), 'weights.pth')."


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is not a whole safetensors file: {_first_line(error)}", _AGAIN) from error


_AGAIN = "Copy or download it again."


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None and not _is_pickle(path):
            raise ModelError(f"{path} is not a weights file.", "Give a .pth or .safetensors file.") from error
        what = f" ({named.group(1)})" if named else ""
        raise ModelError(
            f"{path} holds more than tensors{what}: a whole pickled model, say. Such a file can run any program "
            "when it is opened, so it is refused.",
            "Where it comes from, save the tensors alone: " + _HOW_TO_SAVE,
        ) from error
    except (AttributeError, EOFError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        if "TorchScript" in str(error):
            raise ModelError(
                f"{path} is a TorchScript program, not a state_dict.",
                "Save its tensors alone: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth').",
            ) from error
        raise ModelError(f"{path} is not a whole weights file: {_first_line(error)}", _AGAIN) from error


def _is_pickle(path: Path) -> bool:
    if zipfile.is_zipfile(path):
        return True
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _unwrap(content: Any) -> State:
    if not isinstance(content, Mapping):
        return {}
    for key in _WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and any(isinstance(value, torch.Tensor) for value in inner.values()):
            return _unwrap(inner)
    state = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
    if any(key.startswith("backbone.") for key in state) and all(key.startswith(_OURS) for key in state):
        return {key.removeprefix("backbone."): value for key, value in state.items()}
    while state and any(all(key.startswith(prefix) for key in state) for prefix in _PREFIXES):
        state = {key.partition(".")[2]: value for key, value in state.items()}
    return state


# ---------------------------------------------------------------------------------------------- load


def load_into(
    network: nn.Module, backbone: Backbone, state: State, *, image_size: int, seed: int, where: str
) -> Loaded:
    """Copy `state` into `network` (made by `backbone.create(image_size, seed)`) and say what became of it.

    Half precision is widened to float32, old DenseNet names are translated, position embeddings are interpolated to
    `image_size`, timm's own translations are used. Raises `ModelError` where the weights are another architecture's.
    """
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    if backbone.library == "torchvision":
        state = _translate(state, network, backbone, image_size)
    fit = _Fit(network.state_dict(), state)
    if not fit.good and backbone.library == "timm":
        translated = _translate_timm(network, backbone, state, image_size, seed)
        if translated is not None:
            state = {**{name: state[name] for name in fit.stray if _CLASSIFIERS.match(name)}, **translated}
            fit = _Fit(network.state_dict(), state)
    if not fit.good:
        raise _misfit(fit, backbone, state, where)
    broken = [name for name in fit.matching if not torch.isfinite(state[name]).all()]
    if broken:
        raise ModelError(f"{where} holds numbers that are not finite, in {broken[0]} for one.", _AGAIN)
    network.load_state_dict(_with_versions(network, {name: state[name] for name in fit.matching}), strict=False)
    return Loaded(len(fit.matching), _explain(fit.stray, state, backbone), fit.missing)


class _Fit:
    """How tensors by name go together with what a network expects."""

    def __init__(self, expected: Mapping[str, torch.Tensor], state: State) -> None:
        self.matching = [name for name in expected if name in state and state[name].shape == expected[name].shape]
        counted = [name for name in expected if not name.endswith("num_batches_tracked")]
        self.expected = len(counted)
        self.missing = tuple(name for name in counted if name not in state)
        self.reshaped = [name for name in counted if name in state and state[name].shape != expected[name].shape]
        self.stray = [name for name in state if name not in expected]
        self.found = self.expected - len(self.missing) - len(self.reshaped)
        odd = [name for name in self.stray if not _CLASSIFIERS.match(name)]
        enough = self.found >= _ENOUGH * self.expected and len(odd) <= (1 - _ENOUGH) * len(state)
        self.good = enough and not self.reshaped and self.found > 0


def _with_versions(network: nn.Module, state: State) -> State:
    own = network.state_dict()
    versioned = type(own)(state)
    # Without the version numbers that torch keeps beside a state dict, MNASNet refuses to load at all.
    vars(versioned)["_metadata"] = vars(own)["_metadata"]
    return versioned


def _translate(state: State, network: nn.Module, backbone: Backbone, image_size: int) -> State:
    if backbone.arch.startswith("densenet"):
        return {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in state.items()}
    places = state.get("encoder.pos_embedding")
    wanted = network.state_dict().get("encoder.pos_embedding")
    if places is None or wanted is None or places.shape == wanted.shape or places.shape[2] != wanted.shape[2]:
        return state
    from torchvision.models.vision_transformer import interpolate_embeddings

    patch = int(network.get_submodule("conv_proj").kernel_size[0])  # type: ignore[index]
    return dict(interpolate_embeddings(image_size, patch, dict(state)))


def _translate_timm(network: nn.Module, backbone: Backbone, state: State, image_size: int, seed: int) -> State | None:
    """Let timm translate a foreign state dict; None where it cannot do so entirely.

    timm does not tell what it left out. A second network from the same seed starts with the same random tensors, so
    one that still equals them was not in the file. (Constants, such as the ones of a norm, tell nothing.)
    """
    import timm

    settings: dict[str, Any] = {}
    if backbone.fixed_size and image_size != backbone.usual.image_size:
        settings = {"img_size": image_size}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        builder = logging.getLogger("timm.models._builder")  # would list every name that it has no use for
        level = builder.level
        builder.setLevel(logging.ERROR)
        try:
            filled = timm.create_model(
                backbone.name.removeprefix("timm/"),
                pretrained=True,
                num_classes=0,
                pretrained_cfg_overlay={"state_dict": dict(state)},
                **settings,
            )
        except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            return None  # the caller says what did not fit
        finally:
            builder.setLevel(level)
    translated: State = filled.state_dict()
    for name, first in network.state_dict().items():
        random = first.is_floating_point() and first.numel() > 1 and bool((first != first.flatten()[0]).any())
        if random and torch.equal(first, translated[name]):
            return None
    return translated


def _explain(stray: Iterable[str], state: State, backbone: Backbone) -> tuple[str, ...]:
    reasons = []
    for name in stray:
        if name.lower().startswith("aux"):
            reasons.append(f"{name} (an auxiliary classifier, of use in the first training only)")
        elif _CLASSIFIERS.match(name):
            outputs = state[name].shape[0] if state[name].ndim else 0
            reasons.append(f"{name} (of the former classifier with {outputs} outputs, replaced by the new head)")
        else:
            reasons.append(f"{name} (no part of {backbone.name})")
    return tuple(reasons)


def _misfit(fit: _Fit, backbone: Backbone, state: State, where: str) -> ModelError:
    share = f"{fit.found} of its {fit.expected} tensors are in it by name and shape"
    reason = f"first difference: {fit.reshaped[0]} has another shape" if fit.reshaped else ""
    if not reason and fit.missing:
        reason = f"{fit.missing[0]} is missing"
    if not reason and fit.stray:
        reason = f"{fit.stray[0]} has no place in it"
    guess = _guess(state)
    repair = f"They fit {guess[0]}: try --backbone {guess[0]}." if guess else "Give weights of that very network."
    return ModelError(f"The weights of {where} do not fit '{backbone.name}': {share}; {reason}.", repair)


def _guess(state: State) -> list[str]:
    """The torchvision networks that the tensors fit, built without memory.

    One network of each family tells which family shares most names; only that one is looked through: 1.3 s where
    all 65 networks take 3.6 s.
    """
    families: dict[str, list[str]] = {}
    for name in torchvision_names():
        if not name.startswith("regnet"):  # computes its widths with tensors, which have no values on the meta device
            families.setdefault(name.replace("wide_", "")[:4], []).append(name)
    likely = max(families.values(), key=lambda names: len(set(_shapes(names[0])) & set(state)))
    return [name for name in likely if _Fit(_shapes(name), state).good]


def _shapes(name: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return dict(create_backbone(name).state_dict())
