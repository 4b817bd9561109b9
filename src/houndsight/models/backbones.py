"""Which networks there are: a name becomes a backbone, its preprocessing, its stages and its published weights.

torchvision is asked first, timm when the name is not torchvision's or begins with `timm/`: importing them costs
0.6 (see `lean`) and 10 seconds of CPU, so neither is imported before it is needed.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from houndsight.errors import ModelError, nearest
from houndsight.models.inference import create_backbone
from houndsight.models.lean import torchvision_models
from houndsight.spec import Preprocess

FORBIDDING = frozenset(
    {
        "apple-amlr",  # research only
        "dinov3-license",
        "fair-noncommercial-research-license",
        "gemma",
        "qwen-community-1.0",
        "sapiens2-license",
        "seer-license",
    }
)
"""Licences that forbid some ordinary use, beside every one with `nc` (non-commercial) in its name."""


@dataclass(frozen=True)
class Published:
    """One set of published weights of a network."""

    tag: str
    """Its name at torchvision or timm, such as IMAGENET1K_V1 or a1_in1k."""
    file: str
    """File name in the cache of weights (torch hub's folder)."""
    url: str
    """Address of the file; empty where only `repo` has it."""
    repo: str
    """Its repository at the Hugging Face Hub; empty for torchvision."""
    repo_file: str
    """Its file in that repository."""
    licence: str
    """As timm and torchvision state it; `unknown` where they do not."""
    preprocess: Preprocess
    """What the images went through when these weights were trained."""

    @property
    def ordinary_use(self) -> bool:
        """Whether the licence permits ordinary use, as far as it is known."""
        return self.licence not in FORBIDDING and "nc" not in re.split(r"[-_ .]", self.licence.lower())


@dataclass(frozen=True)
class Backbone:
    """A network that can be built, and what is published for it."""

    library: Literal["torchvision", "timm"]
    arch: str
    """The library's name without tag."""
    tag: str
    """The published weights that were named (after a dot); empty where none were."""
    published: tuple[Published, ...]
    """The weights that `imagenet` means, best first; one entry where a tag was given."""
    usual: Preprocess
    """Preprocessing for weights of unknown origin, and for none."""
    fixed_size: bool
    """Built for one image size; another size needs its position embeddings interpolated."""

    @property
    def name(self) -> str:
        """The full name: it means the same network in every release, whoever else uses it."""
        prefix = "timm/" if self.library == "timm" else ""
        return f"{prefix}{self.arch}{'.' if self.tag else ''}{self.tag}"

    def preprocess(self, published: Published | None, image_size: int | None) -> Preprocess:
        """That of the weights, with another image size where one is asked for: the resize keeps its proportion."""
        base = published.preprocess if published else self.usual
        if image_size is None or image_size == base.image_size:
            return base
        resize = max(image_size, round(base.resize * image_size / base.image_size))
        return base.model_copy(update={"image_size": image_size, "resize": resize})

    def create(self, image_size: int, seed: int) -> nn.Module:
        """The network without its classifier, with seeded random weights; torch's own generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                return create_backbone(self.name, image_size)
            except (AssertionError, RuntimeError, TypeError, ValueError) as error:
                raise self._size_refused(image_size, error) from error

    def count_features(self, network: nn.Module, image_size: int) -> int:
        """D of the features (B, D), found by sending one image through; raises `ModelError` for a size it refuses."""
        network.eval()
        try:
            with torch.inference_mode():
                features = network(torch.zeros(1, 3, image_size, image_size))
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise self._size_refused(image_size, error) from error
        if not isinstance(features, torch.Tensor) or features.ndim != 2:
            raise ModelError(f"'{self.name}' is not a network for classifying images: it gives no single feature row.")
        return int(features.shape[1])

    def _size_refused(self, image_size: int, error: Exception) -> ModelError:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        sizes = sorted({each.preprocess.image_size for each in self.published} | {self.usual.image_size})
        usual = " or ".join(str(size) for size in sizes)
        return ModelError(
            f"'{self.name}' cannot work on images of {image_size} x {image_size} pixels: {reason[:200].rstrip('.')}.",
            f"Its own size is {usual}: leave --image-size out.",
        )


def resolve(name: str) -> Backbone:
    """The backbone of that name; raises `ModelError` with the nearest names where neither library has it.

    `resnet50`, `timm/resnet50` and, for one set of published weights, `resnet50.IMAGENET1K_V1` or `resnet50.a1_in1k`.
    """
    if not name.startswith("timm/"):
        known = _torchvision_names()
        arch, _, tag = name.partition(".")
        if arch in known:
            found = _torchvision(arch, tag)
            if found is not None:
                return found
    else:
        known = []
    found = _timm(name.removeprefix("timm/"))
    if found is not None:
        return found
    raise _unknown(name, known)


def _unknown(name: str, torchvision_names: list[str]) -> ModelError:
    import timm

    arch, _, tag = name.removeprefix("timm/").partition(".")
    if tag and arch in torchvision_names:
        tags = [entry.tag for entry in _published_torchvision(arch)]
        return ModelError(f"No weights '{tag}' are published for '{arch}'.", f"There are {', '.join(tags)}.")
    if tag and timm.is_model(arch):
        tags = [each.partition(".")[2] for each in timm.list_models(f"{arch}.*", pretrained=True)]
        return ModelError(f"No weights '{tag}' are published for 'timm/{arch}'.", f"There are {', '.join(tags)}.")
    hits = nearest(arch, [*timm.list_models(), *torchvision_names])
    hint = f"Did you mean {' or '.join(repr(hit) for hit in hits)}?" if hits else "Try resnet18 or timm/convnext_tiny."
    return ModelError(f"No torchvision or timm network is called '{name}'.", hint)


# -------------------------------------------------------------------------------------- torchvision


def _torchvision_names() -> list[str]:
    models = torchvision_models()
    return list(models.list_models(module=models))


def torchvision_names() -> list[str]:
    """Every classification network of torchvision."""
    return _torchvision_names()


def _torchvision(arch: str, tag: str) -> Backbone | None:
    entries = _published_torchvision(arch)
    # What most files in the world were trained with is the first release, not the one torchvision now calls default.
    usual = next((each for each in entries if each.tag == "IMAGENET1K_V1"), entries[0])
    named = tuple(each for each in entries if each.tag == tag) if tag else entries
    if not named:
        return None
    fixed = arch.startswith(("vit_", "maxvit"))
    return Backbone("torchvision", arch, tag, named, (named[0] if tag else usual).preprocess, fixed)


def _published_torchvision(arch: str) -> tuple[Published, ...]:
    listed = torchvision_models().get_model_weights(arch)
    ordered = [listed.DEFAULT, *(each for each in listed if each != listed.DEFAULT)]
    return tuple(_entry_torchvision(arch, each) for each in ordered)


def _entry_torchvision(arch: str, weights: Any) -> Published:
    transforms = weights.transforms()
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if arch in {"googlenet", "inception_v3"}:
        # Published with transform_input=True, which turns ImageNet's normalisation into this one inside the network.
        mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return Published(
        tag=weights.name,
        file=weights.url.rsplit("/", 1)[1],
        url=weights.url,
        repo="",
        repo_file="",
        licence="cc-by-nc-4.0" if "SWAG" in weights.name else "bsd-3-clause",
        preprocess=Preprocess(
            image_size=transforms.crop_size[0],
            resize=transforms.resize_size[0],
            interpolation="bicubic" if transforms.interpolation.value == "bicubic" else "bilinear",
            mean=mean,
            std=std,
        ),
    )


# --------------------------------------------------------------------------------------------- timm


def _timm(name: str) -> Backbone | None:
    import timm

    arch, _, tag = name.partition(".")
    if not re.fullmatch(r"\w+", arch) or not timm.is_model(arch):
        return None
    if tag and name not in timm.list_models(f"{arch}.*", pretrained=True):
        return None
    config = timm.models.get_pretrained_cfg(name)
    if config is None:
        return None
    side = int(config.input_size[-1])
    if config.input_size[0] != 3 or config.input_size[-2] != side:
        raise ModelError(f"'timm/{name}' takes inputs of {config.input_size}; only square RGB images are supported.")
    preprocess = Preprocess(
        image_size=side,
        resize=max(side, int(side / (config.crop_pct or 1.0))),
        interpolation="bilinear" if config.interpolation == "bilinear" else "bicubic",
        mean=config.mean,
        std=config.std,
    )
    published: tuple[Published, ...] = ()
    if config.url or config.hf_hub_id:
        full = f"{arch}.{config.tag}" if config.tag else arch
        url = config.url if isinstance(config.url, str) and config.url.endswith((".pth", ".safetensors")) else ""
        published = (
            Published(
                tag=config.tag or "",
                file=url.rsplit("/", 1)[1] if url else f"{full}.safetensors",
                url=url,
                repo=config.hf_hub_id or "",
                repo_file=config.hf_hub_filename or "model.safetensors",
                licence=config.license or "unknown",
                preprocess=preprocess,
            ),
        )
    return Backbone("timm", arch, tag, published, preprocess, bool(config.fixed_input_size))


# ------------------------------------------------------------------------------------------- stages

_OPENED = frozenset({"features", "layers", "blocks", "stages", "encoder", "trunk_output", "trunk", "body"})
_POOLING = (nn.MaxPool2d, nn.AvgPool2d)
_NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Stage:
    """A stretch of the backbone that is frozen together."""

    name: str
    modules: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]
    """All parameters of the stage; those that belong to no module, such as a class token, are in the first."""


def stages(backbone: nn.Module) -> list[Stage]:
    """The backbone cut up from input to features.

    Bare layers run together (the stem; in a VGG up to each pooling); every block (layer1, denseblock1, an encoder
    layer) is a stage of its own.
    """
    runs: list[tuple[str, list[nn.Module], bool]] = []  # name, modules, whether bare layers may still be added
    _walk(backbone, "", runs)
    runs = [run for run in runs if any(True for module in run[1] for _ in module.parameters())]
    claimed = {id(parameter) for _, modules, _ in runs for module in modules for parameter in module.parameters()}
    loose = [parameter for parameter in backbone.parameters() if id(parameter) not in claimed]
    found = []
    for number, (name, modules, _) in enumerate(runs):
        owned = [parameter for module in modules for parameter in module.parameters()]
        found.append(Stage(name, tuple(modules), tuple([*loose, *owned] if number == 0 else owned)))
    return found


def _walk(module: nn.Module, prefix: str, runs: list[tuple[str, list[nn.Module], bool]]) -> None:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if name in _OPENED and any(True for _ in child.children()):
            _walk(child, f"{path}.", runs)
        elif any(True for _ in child.children()):
            runs.append((path, [child], False))
        elif runs and (runs[-1][2] or isinstance(child, _NORMS) or not any(True for _ in child.parameters())):
            # A bare layer goes on with the run before it; a norm or a dropout closes the block that it follows.
            runs[-1][1].append(child)
            if isinstance(child, _POOLING):
                runs[-1] = (runs[-1][0], runs[-1][1], False)
        else:
            runs.append((path if runs else "stem", [child], True))
