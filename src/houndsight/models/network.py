"""The network that is trained and served: normalisation, backbone and head in one module, frozen as far as asked.

`build` makes it from a spec (with weights), `rebuild` from an artifact's card (without).
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from houndsight.errors import ModelError
from houndsight.models.backbones import Backbone, Published, resolve, stages
from houndsight.models.head import make_head
from houndsight.models.inference import normalise
from houndsight.models.loading import Loaded, file_sha256, load_into, read_state
from houndsight.models.weights import find_for
from houndsight.results import ModelCard
from houndsight.spec import ClassifierSpec, Preprocess

log = logging.getLogger("houndsight")


class Network(nn.Module):
    """uint8 images (B, 3, S, S), or features (B, D) -> logits (B, C)."""

    def __init__(self, name: str, backbone: nn.Module, head: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.name = name
        """Full name of the backbone."""
        self.preprocess = preprocess
        self.backbone = backbone
        self.head = head
        self._frozen: tuple[nn.Module, ...] = ()
        self._left_out: list[tuple[nn.Module, str, nn.Module]] = []
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, C); a batch of features (B, D) goes straight to the head."""
        logits: torch.Tensor = self.head(images if images.ndim == 2 else self.features(images))
        return logits

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, D) from uint8 images, or from float images that are normalised already."""
        if images.dtype == torch.uint8:
            images = normalise(images, self.mean, self.std)
        features: torch.Tensor = self.backbone(images)
        return features

    def freeze(self, modules: Sequence[nn.Module], parameters: Sequence[nn.Parameter]) -> None:
        """Train no more: `parameters` get no gradients, `modules` stay in eval mode whatever `.train()` says."""
        self._frozen = (*self._frozen, *modules)
        for parameter in parameters:
            parameter.requires_grad_(False)
        self.train(self.training)

    def leave_out(self, modules: Iterable[nn.Module]) -> None:
        """Pass by these modules of the backbone until `put_back`: the network then takes what they would have made."""
        wanted = {id(module) for module in modules}
        for parent in list(self.backbone.modules()):
            for name, child in list(parent.named_children()):
                if id(child) in wanted:
                    self._left_out.append((parent, name, child))
                    setattr(parent, name, nn.Identity())

    def put_back(self) -> None:
        """Make the network whole again."""
        for parent, name, child in self._left_out:
            setattr(parent, name, child.to(self.mean.device))
        self._left_out.clear()

    def train(self, mode: bool = True) -> "Network":
        """As torch's, but frozen batch norm keeps its statistics and frozen dropout stays off."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that are not frozen."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


@dataclass
class Built:
    """A network and where its weights came from."""

    network: Network
    source: str
    """Where the backbone's weights came from, in words."""
    licence: str
    """Their licence; `unknown` for a file of unknown origin."""
    loaded: int
    """Tensors of the backbone that were loaded."""
    left: tuple[str, ...]
    """What the file holds beside them, and why it was left."""
    missing: tuple[str, ...]
    """Tensors of the backbone that the file lacks and that stay random."""


def build(spec: ClassifierSpec, num_classes: int) -> Built:
    """The network of a spec on the CPU, its random parts seeded by `spec.seed`.

    Raises `ModelError` for an unknown backbone, weights that are not there or do not fit, an image size that the
    backbone refuses, and more frozen stages than it has.
    """
    backbone = resolve(spec.backbone)
    path, published, source = _weights(spec, backbone)
    preprocess = backbone.preprocess(published, spec.image_size)
    size = preprocess.image_size
    body = backbone.create(size, spec.seed)
    done = Loaded(0, (), ())
    if path is not None:
        done = load_into(body, backbone, read_state(path), image_size=size, seed=spec.seed, where=path.name)
    head = make_head(backbone.count_features(body, size), spec.hidden, num_classes, spec.dropout, spec.seed)
    network = Network(backbone.name, body, head, preprocess)
    freeze_stages(network, spec.freeze)
    licence = published.licence if published else ("none" if path is None else "unknown")
    built = Built(network.train(), source, licence, done.count, done.left, done.missing)
    log.info(describe(built))
    return built


def _weights(spec: ClassifierSpec, backbone: Backbone) -> tuple[Path | None, Published | None, str]:
    if spec.weights == "none":
        return None, None, "random weights"
    if spec.weights == "imagenet":
        found = find_for(backbone)
        digest = file_sha256(found.path)
        entry = _same_hash(backbone, digest)
        if entry is None and found.path.suffix == ".pth":
            # The name carries the hash of the published file; this one was put there by hand.
            return found.path, found.published, f"{found.path.name} of the cache, added by hand (sha256 {digest[:12]})"
        return found.path, found.published, f"{backbone.library} {found.published.tag} ({found.path.name})"
    path = Path(spec.weights).expanduser()
    if not path.is_file():
        read_state(path)  # says what is there instead
    digest = file_sha256(path)
    entry = _same_hash(backbone, digest)
    known = f", {backbone.library} {entry.tag}" if entry else ""
    return path, entry, f"{path.name} (sha256 {digest[:12]}{known})"


def _same_hash(backbone: Backbone, digest: str) -> Published | None:
    for published in backbone.published:
        if f"-{digest[:8]}" in published.file:
            return published
    return None


def freeze_stages(network: Network, freeze: str | int) -> None:
    """Freeze the whole backbone (`all`), its first stages (a number) or nothing (`none`).

    Raises `ModelError` where the backbone has fewer stages.
    """
    if freeze in {"none", 0}:
        return
    if freeze == "all":
        network.freeze([network.backbone], list(network.backbone.parameters()))
        return
    parts = stages(network.backbone)
    assert isinstance(freeze, int), "the spec allows all, none or a number"
    if freeze > len(parts):
        names = ", ".join(part.name for part in parts)
        raise ModelError(
            f"'{network.name}' has {len(parts)} stages ({names}); {freeze} of them cannot be frozen.",
            f"--freeze takes 0 to {len(parts)}, or all.",
        )
    for part in parts[:freeze]:
        network.freeze(part.modules, part.parameters)


def fix_batch_norm(network: Network) -> None:
    """Keep the running statistics of every batch norm as they are; its weights go on learning."""
    norms = [each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    network.freeze(norms, [])


def describe(built: Built) -> str:
    """One sentence on what was loaded, left and missing."""
    if not built.loaded:
        return f"{built.network.name} starts from {built.source}."
    said = f"{built.network.name}: {built.loaded} tensors from {built.source}"
    if built.left:
        said += f"; left: {_some(built.left)}"
    if built.missing:
        said += f"; missing and random: {_some(built.missing)}"
    return said + "."


def _some(items: Sequence[str]) -> str:
    rest = f" and {len(items) - 2} more" if len(items) > 2 else ""
    return "; ".join(items[:2]) + rest


def rebuild(card: ModelCard, features: int) -> Network:
    """The network of an artifact with random weights, in eval mode; needs no weights file and no network access."""
    backbone = resolve(card.backbone)
    body = backbone.create(card.preprocess.image_size, 0)
    head = make_head(features, card.hidden, len(card.classes), card.dropout, 0)
    return Network(backbone.name, body, head, card.preprocess).eval()
