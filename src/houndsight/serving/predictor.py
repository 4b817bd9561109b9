"""Serving as four verbs: load, decode, predict, encode; the servers around it differ, this does not."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from houndsight.data import images
from houndsight.errors import ModelError
from houndsight.models.artifact import Artifact, load
from houndsight.results import ModelCard
from houndsight.spec import Preprocess

log = logging.getLogger("houndsight")

CHECKED = 8
"""Stored images that a loaded model is tried on: a sound one differs by rounding, a damaged one by far more."""
TOLERANCE = 1e-3
"""Largest difference of a logit, as a share of the largest logit; float32 on another processor stays under 1e-4."""


class Predictor:
    """A trained classifier that answers."""

    def __init__(self, artifact: Artifact) -> None:
        self.card: ModelCard = artifact.card
        self.network = artifact.network.eval()

    @classmethod
    def load(cls, path: str | Path) -> "Predictor":
        """From a job's folder, an artifact folder or a `model.tar.gz`.

        Raises `ModelError` where it is broken, also where it answers its own stored images otherwise than it did.
        """
        artifact = load(Path(path))
        predictor = cls(artifact)
        expected = artifact.logits[:CHECKED]
        if len(expected):
            found = predictor.logits(artifact.images[:CHECKED])
            off = float(np.abs(found - expected).max())
            if not off <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
                raise ModelError(
                    f"The model {path} answers its own stored images otherwise than when it was saved "
                    f"(a logit is off by {off:.3g}): its weights are damaged, or another version computes otherwise.",
                    "Copy it again from the job that made it.",
                )
        return predictor

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.card.classes

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes the network's input."""
        return self.card.preprocess

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """An encoded image -> (S, S, 3) uint8; raises `ImageError` where it cannot be read."""
        return images.fit_to(images.decode(data), self.preprocess)

    def logits(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 -> (B, C) before temperature and softmax, in float32."""
        side = self.preprocess.image_size
        if batch.dtype != np.uint8 or batch.shape[1:] != (side, side, 3):
            raise ValueError(f"expected uint8 (B, {side}, {side}, 3), got {batch.dtype} {batch.shape}")
        with torch.inference_mode():
            x_BCHW = torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2)
            return np.asarray(self.network(x_BCHW).numpy(), dtype=np.float32)

    def predict(self, batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(B, S, S, 3) uint8 -> calibrated probabilities (B, C); each row sums to 1."""
        scaled = self.logits(batch).astype(np.float64) / self.card.temperature
        odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def encode(self, probabilities: NDArray[np.floating[Any]], top: int = 5) -> list[dict[str, Any]]:
        """One row of probabilities (C,) -> the `top` most probable classes, most probable first."""
        best = np.argsort(-probabilities, kind="stable")[:top]
        return [{"class": self.classes[place], "probability": float(probabilities[place])} for place in best]
