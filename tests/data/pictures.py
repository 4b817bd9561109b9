"""Folders and pictures that the tests of `data` make on the fly."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def photo(height: int = 60, width: int = 90, seed: int = 0) -> Pixels:
    """A smooth picture with some noise, unlike itself in any turned or mirrored position."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + rng.integers(-6, 7, smooth.shape, np.int16)
    image: Pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    return image


def encoded(image: Image.Image | Pixels, kind: str, **options: Any) -> bytes:
    """The picture in a file format, as Pillow writes it."""
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def tree(root: Path, files: Iterable[str], content: bytes = b"-") -> Path:
    """Files below `root`; a name that ends in / is an empty folder."""
    for name in files:
        place = root / name
        if name.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    return root


def classes(counts: Mapping[str, int], under: str = "") -> list[str]:
    """Names `under/class/0.jpg ...` for a class each."""
    return [f"{under}{name}/{number}.jpg" for name, count in counts.items() for number in range(count)]


def photos(root: Path, counts: Mapping[str, int], under: str = "", side: int = 40) -> Path:
    """Real JPEGs, each another picture."""
    for number, name in enumerate(classes(counts, under)):
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(photo(side, side + 10, number), "JPEG", quality=90))
    return root
