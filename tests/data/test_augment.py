"""Random crops, mirrors and TrivialAugment: exact, seeded, and as torchvision defines them."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from houndsight.data.augment import augmented, changed, crop_and_flip, trivial
from houndsight.spec import Preprocess
from tests.data.pictures import photo

PREPROCESS = Preprocess(image_size=48, resize=64)
SQUARE = photo(64, 64)


def test_without_augmentation_it_is_the_centre() -> None:
    assert (augmented(SQUARE, PREPROCESS, "none", np.random.default_rng(0)) == SQUARE[8:56, 8:56]).all()


def test_the_same_generator_gives_the_same_image_and_another_another() -> None:
    def of(seed: int) -> bytes:
        return augmented(SQUARE, PREPROCESS, "trivial", np.random.default_rng(seed)).tobytes()

    assert of(1) == of(1)
    assert len({of(seed) for seed in range(50)}) == 50


def test_crops_cover_the_square_and_half_are_mirrored() -> None:
    across = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    seen = [crop_and_flip(across, PREPROCESS, np.random.default_rng(seed)) for seed in range(400)]
    mirrored = sum(int(image[0, 0, 0]) > int(image[0, -1, 0]) for image in seen)
    assert 160 < mirrored < 240
    assert min(int(image.min()) for image in seen) < 5
    assert max(int(image.max()) for image in seen) > 250
    assert all(image.shape == (48, 48, 3) for image in seen)


def test_trivial_changes_most_images_and_keeps_the_input() -> None:
    image = photo(48, 48)
    before = image.copy()
    same = sum((trivial(image, np.random.default_rng(seed)) == image).all() for seed in range(200))
    assert (image == before).all()
    assert 10 < same < 60


def _exact(strengths: Any, number: int, *, of_ints: bool) -> float:
    """torchvision's strength without float32's rounding, which makes a shift by 16 one by 15.9999 and so by 15."""
    if not strengths.ndim:
        return 0.0
    first, last = float(strengths[0]), round(float(strengths[-1]), 6)
    return float(strengths[number]) if of_ints else first + (last - first) * (number / 30)


@pytest.mark.slow
def test_every_operation_is_torchvisions() -> None:
    from torchvision.transforms import InterpolationMode, TrivialAugmentWide
    from torchvision.transforms.autoaugment import _apply_op

    image = Image.fromarray(photo(48, 64))
    for name, (strengths, signed) in TrivialAugmentWide()._augmentation_space(31).items():
        ours = name.lower().replace("shear", "shear_").replace("translate", "translate_")
        for number in range(31):
            for sign in (-1, 1) if signed else (1,):
                strength = _exact(strengths, number, of_ints=name == "Posterize")
                theirs = _apply_op(image, name, sign * strength, InterpolationMode.NEAREST, None)
                mine = changed(image, ours, number / 30, sign)
                differ = (np.asarray(mine) != np.asarray(theirs)).mean()
                assert differ <= (0.001 if signed else 0), (name, number, sign, differ)


@pytest.mark.parametrize("name", ["solarize", "posterize"])
def test_the_strongest_is_the_paper_s(name: str) -> None:
    image = Image.fromarray(photo(8, 8))
    strongest = np.asarray(changed(image, name, 1.0, 1))
    expected = 255 - np.asarray(image) if name == "solarize" else np.asarray(image) & 0b11000000
    assert (strongest == expected).all()
