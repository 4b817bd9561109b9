"""Serving as four verbs: load, decode, predict, encode; the servers around it differ, this does not.

`load` reads an artifact with torch, `open` a prepared model without it (`serving.prepare`); what they give is the same.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from houndsight.data import images
from houndsight.data.formats import MAX_PIXELS
from houndsight.errors import ModelError
from houndsight.results import ModelCard
from houndsight.spec import Preprocess

if TYPE_CHECKING:
    from houndsight.models.artifact import Artifact

log = logging.getLogger("houndsight")

CHECKED = 8
"""Stored images that a loaded model is tried on: a sound one differs by rounding, a damaged one by far more."""
TOLERANCE = 1e-3
"""Largest difference of a logit, as a share of the largest logit; float32 on another processor stays under 1e-4."""

Pixels = NDArray[np.uint8]
Forward = Callable[[Pixels], NDArray[np.float32]]
"""uint8 images (B, S, S, 3) -> logits (B, C); safe to call from several threads at once."""


class Predictor:
    """A trained classifier that answers; several threads may use one."""

    def __init__(self, card: ModelCard, forward: Forward, runtime: str, pixels: int = MAX_PIXELS) -> None:
        self.card = card
        self.runtime = runtime
        """What computes: `eager`, `openvino-bf16`, ..."""
        self.pixels = pixels
        """Most pixels of an image that is decoded."""
        self._forward = forward

    @classmethod
    def load(cls, path: str | Path) -> "Predictor":
        """From a job's folder, an artifact folder or a `model.tar.gz`, by eager float32.

        Raises `ModelError` where it is broken, also where it answers its own stored images otherwise than it did.
        """
        from houndsight.models.artifact import load

        return cls.of(load(Path(path)), str(path))

    @classmethod
    def of(cls, artifact: "Artifact", name: str) -> "Predictor":
        """The same from an artifact in memory; `name` is what an error calls it."""
        from houndsight.models.runtime import EagerRuntime

        predictor = cls(artifact.card, EagerRuntime(artifact.network), "eager")
        predictor.check(artifact.images[:CHECKED], artifact.logits[:CHECKED], name)
        return predictor

    @classmethod
    def open(cls, folder: str | Path, threads: int | None = None) -> "Predictor":
        """From a folder that `serving.prepare` made, by the runtime that was chosen there."""
        from houndsight.serving.prepared import open_model

        return open_model(Path(folder), threads)

    def check(self, samples: Pixels, expected: NDArray[np.float32], name: str) -> None:
        """Raise `ModelError` where the logits of `samples` are not the `expected` ones to rounding."""
        if not len(samples):
            return
        off = float(np.abs(self.logits(samples) - expected).max())
        if not off <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise ModelError(
                f"The model {name} answers its own stored images otherwise than when it was saved "
                f"(a logit is off by {off:.3g}): its weights are damaged, or another version computes otherwise.",
                "Copy it again from the job that made it.",
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.card.classes

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes the network's input."""
        return self.card.preprocess

    def decode(self, data: bytes) -> Pixels:
        """An encoded image -> (S, S, 3) uint8; raises `ImageError` where it cannot be read or is too large."""
        return images.fit_to(images.decode(data, self.pixels), self.preprocess)

    def logits(self, batch: Pixels) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 -> (B, C) before temperature and softmax, in float32."""
        side = self.preprocess.image_size
        if batch.dtype != np.uint8 or batch.shape[1:] != (side, side, 3):
            raise ValueError(f"expected uint8 (B, {side}, {side}, 3), got {batch.dtype} {batch.shape}")
        return self._forward(np.ascontiguousarray(batch))

    def predict(self, batch: Pixels) -> NDArray[np.float64]:
        """(B, S, S, 3) uint8 -> calibrated probabilities (B, C); each row sums to 1."""
        return calibrated(self.logits(batch), self.card.temperature)

    def encode(self, probabilities: NDArray[np.floating[Any]], top: int = 5) -> list[dict[str, Any]]:
        """One row of probabilities (C,) -> the `top` most probable classes, most probable first."""
        best = np.argsort(-probabilities, kind="stable")[:top]
        return [{"class": self.classes[place], "probability": float(probabilities[place])} for place in best]


def calibrated(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """(B, C) logits -> softmax(logits / temperature) in float64; Guo et al. 2017, equation 9."""
    scaled = logits.astype(np.float64) / temperature
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
