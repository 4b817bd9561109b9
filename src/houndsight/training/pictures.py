"""Small pictures for the page, made while the images are at hand: what spoke for a mistake, and what findings name."""

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from houndsight.data.cache import DecodedImages
from houndsight.data.images import centre, thumbnail
from houndsight.errors import ImageError
from houndsight.folders import JobFolder, thumbnail_name
from houndsight.models.network import Network
from houndsight.results import Evaluation
from houndsight.spec import Index
from houndsight.workspace import atomic_write, write_json

log = logging.getLogger("houndsight")

SIDE = 160
"""Pixels of a picture."""
FINEST, COARSEST = 4, 4
"""A map of fewer than `COARSEST` fields a side says too little; one finer than a `FINEST`th of the image sees edges."""
MOST, EACH = 24, 8
"""Most pictures of findings in all, and of one finding."""
BATCH = 8

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Place:
    """Where in a network the last spatial map is made."""

    module: nn.Module
    """The module whose output it is."""
    call: int
    """Which of its calls in one forward pass, from 0."""
    last: bool
    """Channels come last."""


def make(
    job: JobFolder, index: Index, network: Network, results: dict[str, Evaluation], images: DecodedImages
) -> dict[str, Evaluation]:
    """All pictures of a job; of the splits only the one is explained whose mistakes the page shows."""
    of_findings(job, index)
    split = "test" if "test" in results else "valid"
    return {**results, split: explain(network, results[split], images, job.evaluation)}


def explain(network: Network, result: Evaluation, images: DecodedImages, folder: Path) -> Evaluation:
    """Write beside each mistake's picture one with what spoke for the wrong class in warm colours; see `grad_cam`.

    Returns the evaluation that names them and rewrites its file; the same one where the network has no spatial map.
    """
    shown = [each for each in result.mistakes if each.thumbnail and each.path in images.row_of]
    side = network.preprocess.image_size
    place = last_map(network, side)
    if place is None or not shown:
        return result
    views = np.stack([centre(np.asarray(images.pixels[images.row_of[each.path]]), side) for each in shown])
    called = [result.classes.index(each.predicted) for each in shown]
    named = {}
    for each, view, heat in zip(shown, views, grad_cam(network, place, views, called), strict=True):
        named[each.path] = name = each.thumbnail.removesuffix(".jpg") + "-heat.jpg"
        with atomic_write(folder / name) as file:
            file.write(overlaid(view, heat))
    mistakes = tuple(each.model_copy(update={"heat": named.get(each.path, "")}) for each in result.mistakes)
    explained = result.model_copy(update={"mistakes": mistakes})
    write_json(folder / f"{result.split}.json", explained)
    return explained


def last_map(network: Network, side: int) -> Place | None:
    """The last output of a module of the backbone with (H, W) fields; None where it has none in its later half.

    A vision transformer has its only one at the very beginning, and no map of what it looks at in the end.
    """
    seen: list[tuple[nn.Module, int, bool] | None] = []
    calls: dict[int, int] = {}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        call = calls.get(id(module), 0)
        calls[id(module)] = call + 1
        last = _spatial(output, side)
        seen.append(None if last is None else (module, call, last))

    handles = [each.register_forward_hook(note) for each in network.backbone.modules() if each is not network.backbone]
    device = network.mean.device
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device))
    finally:
        for handle in handles:
            handle.remove()
    for at in range(len(seen) - 1, len(seen) // 2 - 1, -1):
        found = seen[at]
        if found is not None:
            return Place(*found)
    return None


def _spatial(output: Any, side: int) -> bool | None:
    """Whether the channels of a spatial map come last; None where it is no such map."""
    if not isinstance(output, Tensor) or output.ndim != 4:
        return None
    _, a, b, c = output.shape
    for height, width, channels, last in ((b, c, a, False), (a, b, c, True)):
        if height == width and COARSEST <= height <= side // FINEST and channels >= 16:
            return last
    return None


def grad_cam(network: Network, place: Place, views: Pixels, classes: Sequence[int]) -> NDArray[np.float32]:
    """(n, h, w) from 0 to 1: where in each of `views` (n, side, side, 3) the evidence for its class lies.

    Grad-CAM (Selvaraju et al. 2017): ReLU of the map's channels summed with the class score's mean gradients as
    weights. Only the layers behind the map are differentiated.
    """
    found = []
    for begin in range(0, len(views), BATCH):
        pixels = torch.from_numpy(views[begin : begin + BATCH]).permute(0, 3, 1, 2).contiguous()
        found.append(_heat(network, place, pixels.to(network.mean.device), classes[begin : begin + BATCH]))
    heat = torch.cat(found).cpu()
    return np.asarray((heat / heat.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)).numpy(), np.float32)


def _heat(network: Network, place: Place, pixels: Tensor, classes: Sequence[int]) -> Tensor:
    leaves: list[Tensor] = []
    calls = 0

    def begin(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
        nonlocal calls
        calls += 1
        if calls - 1 != place.call:
            return None
        torch.set_grad_enabled(True)  # until `no_grad` below ends
        leaves.append(output.detach().clone().requires_grad_())
        return leaves[0].clone()  # what follows may work in place

    handle = place.module.register_forward_hook(begin)
    try:
        with torch.no_grad():
            scores = network.eval()(pixels)
            chosen = scores[torch.arange(len(pixels)), torch.tensor(classes, device=scores.device)].sum()
            (gradient,) = torch.autograd.grad(chosen, leaves[0])
    finally:
        handle.remove()
    values = leaves[0].detach()
    if place.last:
        values, gradient = values.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
    return (values * gradient.mean(dim=(2, 3), keepdim=True)).sum(dim=1).clamp_min(0).float()


def overlaid(view: Pixels, heat: NDArray[np.float32]) -> bytes:
    """JPEG of `view` (side, side, 3), greyed, with `heat` (h, w) from 0 to 1 over it in warm colours."""
    from PIL import Image

    small = Image.fromarray(view).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    grey = np.asarray(small.convert("L"), np.float32)[..., None].repeat(3, axis=2) * 0.75 + 40
    raised = Image.fromarray(heat).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    share = np.clip(np.asarray(raised, np.float32), 0, 1)[..., None]
    warm = np.array([255.0, 176.0, 30.0]) * (1 - share) + np.array([214.0, 32.0, 20.0]) * share
    mixed = grey * (1 - 0.7 * share) + warm * 0.7 * share
    out = io.BytesIO()
    Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=82)
    return out.getvalue()


def of_findings(job: JobFolder, index: Index) -> int:
    """Write small pictures of the images that the findings about the data name; returns how many.

    Files that are no images, which such findings name as well, have no picture.
    """
    found = []
    for path in (job.check, job.findings):
        if path.is_file():
            found += [each for each in json.loads(path.read_bytes())["findings"] if each["status"] == "IssuesFound"]
    named = list(dict.fromkeys(file for each in found for file in each["files"][:EACH]))
    made = 0
    for file in named:
        if made >= MOST:
            break
        try:
            picture = thumbnail(Path(index.root) / file, side=112)
        except (ImageError, OSError):
            continue
        job.thumbnails.mkdir(exist_ok=True)
        with atomic_write(job.thumbnails / thumbnail_name(file)) as out:
            out.write(picture)
        made += 1
    return made
