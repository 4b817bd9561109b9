"""Predict: classes with calibrated probabilities for some image files, by a trained model, in this process."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from houndsight.errors import ImageError, SpecError
from houndsight.verbs.models import find_model

if TYPE_CHECKING:
    from houndsight.serving.predictor import Predictor

BATCH = 32  # images decoded before the network is asked: 19 MB at 224 px, and no faster beyond


def predict(
    model: str | Path,
    images: str | Path | Iterable[str | Path],
    *,
    top: int = 5,
    workspace: str | Path | None = None,
) -> list[dict[str, Any]]:
    """The `top` classes of each image, best first, in the order of `images`.

    One entry an image: `{"image", "predictions": [{"class", "probability"}, ...]}`. An image that cannot be read
    has no predictions and an `error` instead; the others are not hurt by it.
    """
    if top < 1:
        raise SpecError(f"One setting is wrong: top: must be 1 or more (got {top}).")
    from houndsight.serving.predictor import Predictor

    paths = [Path(images)] if isinstance(images, str | Path) else [Path(each) for each in images]
    predictor = Predictor.load(find_model(model, workspace))
    results: list[dict[str, Any]] = []
    for first in range(0, len(paths), BATCH):
        results += _predict_batch(predictor, paths[first : first + BATCH], top)
    return results


def _predict_batch(predictor: "Predictor", paths: list[Path], top: int) -> list[dict[str, Any]]:
    import numpy as np

    entries: list[dict[str, Any]] = []
    decoded, places = [], []
    for path in paths:
        entry: dict[str, Any] = {"image": str(path), "predictions": []}
        try:
            decoded.append(predictor.decode(read_image(path)))
            places.append(entry)
        except ImageError as error:
            entry["error"] = error.document()
        entries.append(entry)
    if decoded:
        rows = predictor.predict(np.stack(decoded))
        for entry, row in zip(places, rows, strict=True):
            entry["predictions"] = predictor.encode(row, top)
    return entries


def read_image(path: Path) -> bytes:
    """The bytes of an image file; raises `ImageError` where it cannot be read."""
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise ImageError(f"The file cannot be read: {error.strerror}.") from error
