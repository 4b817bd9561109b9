"""The cache of weights that training, scripts and handlers share: torch hub's folder, under the libraries' own names.

`$TORCH_HOME/hub/checkpoints` (or `~/.cache/torch/...`), where torchvision looks; timm's files also in the Hugging Face
cache, where timm looks. Training never downloads; `fetch` does.
"""

import hashlib
import logging
import os
import re
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from houndsight.errors import ModelError
from houndsight.workspace import Progress, atomic_write, friendly_disk_errors

if TYPE_CHECKING:  # to list the cache needs no torch
    from houndsight.models.backbones import Backbone, Published
    from houndsight.models.loading import State

log = logging.getLogger("houndsight")

TIMEOUT = 20.0  # seconds without a byte after which a download is given up
MAX_BYTES = 16 * 2**30  # the largest file of either library has 10 GB
_HASH = re.compile(r"-([0-9a-f]{8,64})\.")
_SUFFIXES = {".pth", ".pt", ".safetensors"}


@dataclass(frozen=True)
class WeightsFile:
    """A file of the cache."""

    name: str
    """The network it is for, as its file name tells it."""
    path: Path
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Found:
    """Weights of a backbone that are in the cache."""

    path: Path
    published: "Published"


def _to_bytes(state: "State") -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous().clone() for name, tensor in state.items()})


def cache_folder() -> Path:
    """The folder of weights files, as torch hub itself finds it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or str(Path(cache) / "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def _timm_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def list_weights() -> list[WeightsFile]:
    """Every weights file of the cache, by name; no network is built and neither library imported."""
    found = []
    if cache_folder().is_dir():
        for path in cache_folder().iterdir():
            if path.suffix in _SUFFIXES and path.is_file() and not path.name.startswith("."):
                name = path.stem if path.suffix == ".safetensors" else _HASH.split(path.name)[0]
                found.append(WeightsFile(name, path, path.stat().st_size))
    if _timm_cache().is_dir():
        for path in _timm_cache().glob("models--timm--*/snapshots/*/*"):
            if path.suffix in {".safetensors", ".bin"} and path.is_file():
                name = "timm/" + path.parents[2].name.removeprefix("models--timm--")
                found.append(WeightsFile(name, path, path.stat().st_size))
    return sorted(found, key=lambda each: (each.name, str(each.path)))


def find(name: str) -> Found:
    """The published weights of a backbone in the cache; where there are none, `ModelError` names the ways out."""
    from houndsight.models.backbones import resolve

    return find_for(resolve(name))


def find_for(backbone: "Backbone") -> Found:
    """As `find`, for a backbone that is resolved already."""
    allowed = permitted(backbone)
    for published in allowed:
        path = _cached(published)
        if path is not None:
            return Found(path, published)
    name = backbone.name
    raise ModelError(
        f"The published weights of '{name}' are not in {cache_folder()}.",
        f"Ways out: `houndsight weights fetch {name}` downloads them, `houndsight weights add FILE --name {name}` "
        "takes a file you have, `--weights FILE` uses one where it lies, `--weights none` starts from random weights.",
    )


def permitted(backbone: "Backbone") -> "tuple[Published, ...]":
    """The published weights that may be used: what was named in full, else what permits ordinary use.

    Raises `ModelError` where nothing is published, and where the licence of all of it forbids ordinary use.
    """
    if not backbone.published:
        raise ModelError(
            f"No weights are published for '{backbone.name}'.",
            "Give a file (--weights FILE) or start from random weights (--weights none).",
        )
    if backbone.tag:
        return backbone.published
    allowed = tuple(each for each in backbone.published if each.ordinary_use)
    if not allowed:
        first = backbone.published[0]
        raise ModelError(
            f"The published weights of '{backbone.name}' are under '{first.licence}', which forbids ordinary use.",
            f"If that licence permits yours, name them in full: --backbone {backbone.name}.{first.tag}.",
        )
    return allowed


def _cached(published: "Published") -> Path | None:
    path = cache_folder() / published.file
    if path.is_file():
        return path
    if published.repo:
        from huggingface_hub import try_to_load_from_cache

        for file in (published.repo_file, "pytorch_model.bin"):
            found = try_to_load_from_cache(published.repo, file)
            if isinstance(found, str):
                return Path(found)
    return None


# ----------------------------------------------------------------------------------------------- add


def add(file: str | Path, name: str) -> Path:
    """Take a weights file into the cache as the weights of `name`, after trying that it fits; the path it got.

    A torchvision name without a tag means the first release (IMAGENET1K_V1): what `pretrained=True` in a script asks
    for; `NAME.IMAGENET1K_V2` means the second. timm finds the file under its own name as well.
    """
    import torch

    from houndsight.models.backbones import resolve
    from houndsight.models.loading import load_into, read_state

    path = Path(file).expanduser()
    backbone = resolve(name)
    if not backbone.published:
        raise ModelError(
            f"Neither torchvision nor timm looks for weights of '{name}'.", "Use the file directly: --weights FILE."
        )
    state = read_state(path)
    size = backbone.usual.image_size
    load_into(backbone.create(size, 0), backbone, state, image_size=size, seed=0, where=str(path))
    published = next((each for each in backbone.published if each.tag == "IMAGENET1K_V1"), backbone.published[0])
    target = cache_folder() / published.file
    with friendly_disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as out:
            if target.suffix == ".safetensors":
                out.write(_to_bytes(state))
            else:
                torch.save(state, out)
    if published.repo:
        _share_with_timm(published, state)
    log.info("Took %s into the cache as the weights of %s: %s.", path, backbone.name, target)
    return target


def take(file: str | Path) -> Path:
    """Take a published file into the cache under its own name, which holds the beginning of its sha256; its new path.

    What a script asks for and misses is named so (resnet50-0676ba61.pth). Raises `ModelError` where name and contents
    do not belong together.
    """
    path = Path(file).expanduser()
    expected = _HASH.search(path.name)
    if not path.is_file():
        raise ModelError(f"There is no file '{path}'.", "Give a .pth or .safetensors file.")
    if expected is None:
        raise ModelError(f"The name '{path.name}' does not say which network it is for.", "Add --name NETWORK.")
    with path.open("rb") as source:
        found = hashlib.file_digest(source, "sha256").hexdigest()
        if not found.startswith(expected[1]):
            raise ModelError(
                f"{path} is not the file of that name: its sha256 begins with {found[:8]}.",
                "Where it is meant for a network of yours, add --name NETWORK; else fetch it again.",
            )
        target = cache_folder() / path.name
        source.seek(0)
        with friendly_disk_errors(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target) as out:
                shutil.copyfileobj(source, out)
    log.info("Took %s into the cache: %s.", path, target)
    return target


def _share_with_timm(published: "Published", state: "State") -> None:
    """Lay the tensors into the Hugging Face cache too, as a snapshot of its own, unless one is there."""
    folder = _timm_cache() / f"models--{published.repo.replace('/', '--')}"
    if (folder / "refs" / "main").exists():
        return
    content = _to_bytes(state)
    revision = hashlib.sha256(content).hexdigest()[:40]
    snapshot = folder / "snapshots" / revision
    with friendly_disk_errors(folder):
        snapshot.mkdir(parents=True, exist_ok=True)
        (folder / "refs").mkdir(exist_ok=True)
        with atomic_write(snapshot / published.repo_file) as out:
            out.write(content)
        with atomic_write(folder / "refs" / "main", "w") as out:
            out.write(revision)


# --------------------------------------------------------------------------------------------- fetch


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Download the published weights of a backbone into the cache, or leave them where they are already; their path.

    Gives up after 20 s without a byte. A file whose name carries its hash appears only when the hash is right.
    """
    from houndsight.models.backbones import resolve
    from houndsight.models.loading import read_state

    backbone = resolve(name)
    published = permitted(backbone)[0]
    path = _cached(published)
    if path is not None:
        return path
    target = cache_folder() / published.file
    download(_address(published), target, backbone.name, progress)
    if published.repo:
        _share_with_timm(published, read_state(target))
    return target


def _address(published: "Published") -> str:
    # The Hub's own client tries five times, 36 s in all, before it says that there is no network.
    if published.url:
        return published.url
    from huggingface_hub import hf_hub_url

    return str(hf_hub_url(published.repo, published.repo_file))


def download(url: str, target: Path, name: str, progress: Progress | None = None) -> Path:
    """Fetch one address into `target`, whole or not at all; checks the hash in the file name where there is one."""
    digest = hashlib.sha256()
    try:
        answer = urllib.request.urlopen(url, timeout=TIMEOUT)  # noqa: S310 - addresses come from the libraries' tables
    except (OSError, ValueError) as error:
        raise _unreachable(name, url, error) from error
    with answer, friendly_disk_errors(target.parent):
        total = int(answer.headers.get("Content-Length") or 0)
        target.parent.mkdir(parents=True, exist_ok=True)
        done = 0
        with atomic_write(target) as out:
            while block := _read(answer, name, url):
                done += len(block)
                if done > MAX_BYTES:
                    raise ModelError(f"{url} sends more than {MAX_BYTES} bytes.")
                digest.update(block)
                out.write(block)
                if progress:
                    progress("fetch", done, total)
            if total and done != total:
                raise _unreachable(name, url, EOFError(f"it ended after {done} of {total} bytes"))
            expected = _HASH.search(target.name)
            if expected and not digest.hexdigest().startswith(expected.group(1)):
                raise ModelError(
                    f"What {url} sent is not the file of that name: its hash begins with {digest.hexdigest()[:8]}.",
                    "Try again later, or from another network.",
                )
    return target


def _read(answer: "urllib.request._UrlopenRet", name: str, url: str) -> bytes:
    try:
        block: bytes = answer.read(2**20)
    except (OSError, ValueError) as error:
        raise _unreachable(name, url, error) from error
    return block


def _unreachable(name: str, url: str, error: Exception) -> ModelError:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    said = (str(reason).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"The weights of '{name}' cannot be fetched from {url}: {said}.",
        f"Bring the file from elsewhere: `houndsight weights add FILE --name {name}`.",
    )
