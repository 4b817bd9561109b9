"""A model made ready to serve: a folder with the network as OpenVINO reads it, its card, and what was found about it.

model.json      the `ModelCard`
prepared.json   `Prepared`: which runtime was chosen, how near it comes to eager float32, what it costs
float.xml .bin  the network, float32; bf16 is made of it when it is compiled
int8.xml .bin   the network quantised, where that was asked for
samples.npz     the artifact's validation images and their eager logits: every instance is tried on them
artifact/       the artifact itself, where no OpenVINO runtime agrees and torch has to serve
blobs/          compiled networks; made anew where they are missing
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from houndsight.errors import ModelError
from houndsight.results import ModelCard
from houndsight.serving.compiled import Compiled
from houndsight.serving.predictor import Predictor, calibrated
from houndsight.spec import Frozen

FORMAT = 1
MIN_AGREEMENT = 0.95
"""Least share of the validation images on which a runtime names the same class as eager float32."""
MAX_DIFFERENCE = 0.1
"""Largest difference of any probability from eager float32's; bf16 gave 0.013 and int8 0.08 on hard crops."""
TRIED = 4
"""Images on which an instance is tried before it is ready."""
SETTINGS = {
    "openvino-f32": ("float.xml", "f32"),
    "openvino-bf16": ("float.xml", "bf16"),
    "openvino-int8": ("int8.xml", "f32"),
}
"""Runtime -> its file and the precision of what is not quantised."""


class Candidate(Frozen):
    """One runtime, as it was found on the validation images that the artifact carries."""

    runtime: str
    """`openvino-bf16`, `openvino-f32`, `openvino-int8`, `cuda` (torch, bfloat16) or `eager` (torch, float32)."""
    images: int
    """How many images it was tried on."""
    agreement: float
    """Share of them on which its most probable class is eager float32's."""
    difference: float
    """Largest difference of a calibrated probability from eager float32's."""
    cpu_ms: dict[int, float] = Field(default_factory=dict)
    """Batch size -> CPU milliseconds an image of the forward pass, on this machine."""
    refused: str = ""
    """Why it is not used, if so."""


class Prepared(Frozen):
    """What came of preparing a model; `prepared.json`."""

    format: int = FORMAT
    """Version of the folder's layout."""
    runtime: str
    """The runtime that was chosen."""
    sizes: tuple[int, ...] = (1,)
    """Batch sizes that are compiled: larger ones only where they cost less an image."""
    candidates: tuple[Candidate, ...] = ()
    """What was tried, the chosen one among them."""
    source: str = ""
    """The model it was made of."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of what made it."""

    @property
    def chosen(self) -> Candidate:
        """The candidate that serves."""
        return next(each for each in self.candidates if each.runtime == self.runtime)


def compare(predictor: Predictor, samples: NDArray[np.uint8], expected: NDArray[np.float32]) -> tuple[float, float]:
    """Share of `samples` with the same most probable class as the `expected` logits; largest probability difference."""
    if not len(samples):
        return 1.0, 0.0
    parts = [samples[at : at + 8] for at in range(0, len(samples), 8)]
    with ThreadPoolExecutor(min(cores(), len(parts))) as pool:
        found = np.concatenate(list(pool.map(predictor.predict, parts)))
    wanted = calibrated(expected, predictor.card.temperature)
    if not np.isfinite(found).all():
        return 0.0, 1.0
    agreement = float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean())
    return agreement, float(np.abs(found - wanted).max())


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def open_model(folder: Path, threads: int | None = None) -> Predictor:
    """The predictor of a prepared folder, tried on some of its stored images.

    Raises `ModelError` where the folder is none, or answers otherwise than when it was prepared.
    """
    try:
        prepared = Prepared.read(folder / "prepared.json")
        card = ModelCard.read(folder / "model.json")
        with np.load(folder / "samples.npz", allow_pickle=False) as stored:
            samples, expected = stored["images"][:TRIED], stored["logits"][:TRIED]
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{folder} is not a prepared model: {error}", "Deploy the model again.") from error
    threads = threads or cores()
    if prepared.runtime in ("eager", "cuda"):
        predictor = _torch(folder, prepared.runtime)
    else:
        file, precision = SETTINGS[prepared.runtime]
        network = Compiled(folder / file, precision, sizes=prepared.sizes, threads=threads, blobs=folder / "blobs")
        predictor = Predictor(card, network, prepared.runtime)
    _, difference = compare(predictor, samples, expected)
    if difference > MAX_DIFFERENCE:
        raise ModelError(
            f"The prepared model {folder} answers its own images otherwise than when it was prepared "
            f"(a probability is off by {difference:.3g}).",
            "Deploy the model again.",
        )
    return predictor


def _torch(folder: Path, runtime: str) -> Predictor:
    import torch

    from houndsight.models import artifact
    from houndsight.models.runtime import EagerRuntime

    torch.set_num_threads(1)  # each compute thread has its core
    loaded = artifact.load(folder / "artifact")
    if runtime == "eager":
        return Predictor.of(loaded, str(folder))
    return Predictor(loaded.card, EagerRuntime(loaded.network, "cuda", "bfloat16"), runtime)
