"""Random changes of one training image, from the decoded square to the network's square; used by the loader.

TrivialAugment: Mueller and Hutter 2021, arXiv 2103.10158, the wide space with 31 strengths, as torchvision draws it.
"""

import math
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from houndsight.data.formats import Pixels
from houndsight.data.images import centre, resized
from houndsight.spec import Preprocess

Augment = Literal["none", "crop-flip", "trivial"]

CROP_AREA = (0.35, 1.0)
"""Least and largest share of the square that a crop covers; its sides' ratio lies between 3:4 and 4:3."""
_RATIO = (math.log(3 / 4), math.log(4 / 3))
_STRENGTHS = 31
_OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
_ENHANCE = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}


def augmented(square: Pixels, preprocess: Preprocess, augment: Augment, rng: np.random.Generator) -> Pixels:
    """(image_size, image_size, 3) of a (resize, resize, 3) square; all randomness comes from `rng`."""
    if augment == "none":
        return centre(square, preprocess.image_size)
    image = crop_and_flip(square, preprocess, rng)
    return trivial(image, rng) if augment == "trivial" else image


def crop_and_flip(square: Pixels, preprocess: Preprocess, rng: np.random.Generator) -> Pixels:
    """A random rectangle of the square, resized to the network's size, mirrored half of the time."""
    side, size = square.shape[0], preprocess.image_size
    area = side * side * rng.uniform(*CROP_AREA)
    ratio = math.exp(rng.uniform(*_RATIO))
    width = min(side, max(1, round(math.sqrt(area * ratio))))
    height = min(side, max(1, round(math.sqrt(area / ratio))))
    top, left = int(rng.integers(side - height + 1)), int(rng.integers(side - width + 1))
    image = resized(square[top : top + height, left : left + width], size, size, preprocess.interpolation)
    return image[:, ::-1] if rng.random() < 0.5 else image


def trivial(image: Pixels, rng: np.random.Generator) -> Pixels:
    """One operation of fourteen, at one strength of 31, in either direction: each as likely as the others."""
    name = _OPERATIONS[int(rng.integers(len(_OPERATIONS)))]
    strength = int(rng.integers(_STRENGTHS)) / (_STRENGTHS - 1)
    sign = 1 if rng.random() < 0.5 else -1
    return np.asarray(changed(Image.fromarray(np.ascontiguousarray(image)), name, strength, sign))


def changed(image: Image.Image, name: str, strength: float, sign: int) -> Image.Image:
    """`image` after one operation; `strength` in [0, 1] spans the wide space, `sign` is -1 or 1 where that matters."""
    if name in _ENHANCE:
        return _ENHANCE[name](image).enhance(1.0 + sign * 0.99 * strength)
    shear, shift = sign * 0.99 * strength, int(sign * 32 * strength)
    match name:
        case "shear_x":
            image = _moved(image, (1, shear, 0, 0, 1, 0))
        case "shear_y":
            image = _moved(image, (1, 0, 0, shear, 1, 0))
        case "translate_x":
            image = _moved(image, (1, 0, -shift, 0, 1, 0))
        case "translate_y":
            image = _moved(image, (1, 0, 0, 0, 1, -shift))
        case "rotate":
            image = image.rotate(sign * 135 * strength)
        case "posterize":
            image = ImageOps.posterize(image, 8 - round(6 * strength))
        case "solarize":
            image = ImageOps.solarize(image, math.ceil(round(255 * (1 - strength), 6)))
        case "autocontrast":
            image = ImageOps.autocontrast(image)
        case "equalize":
            image = ImageOps.equalize(image)
    return image


def _moved(image: Image.Image, inverse: tuple[float, float, float, float, float, float]) -> Image.Image:
    """The affine map whose inverse takes an output pixel to its source; what comes from outside is black."""
    return image.transform(image.size, Image.Transform.AFFINE, inverse, Image.Resampling.NEAREST)
