"""The resize against Pillow's, the centre, and the shapes that break careless code."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from houndsight.data.folder import scan
from houndsight.data.images import decode, fit_to, read, resized, square
from houndsight.errors import SpecError
from houndsight.spec import Preprocess
from tests.data.pictures import Pixels, photo

FILTER = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
Interpolation = Literal["bilinear", "bicubic"]


def by_pillow(image: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((width, height), FILTER[interpolation]))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width", "short"), [(375, 500, 256), (500, 333, 256), (40, 50, 64), (1200, 900, 64)]
)
def test_the_resize_is_pillows_within_a_hundredth(
    height: int, width: int, short: int, interpolation: Interpolation
) -> None:
    image = photo(height, width)
    size = (short, short * width // height) if height <= width else (short * height // width, short)
    ours = resized(image, size[0], size[1], interpolation)
    theirs = by_pillow(image, size[0], size[1], interpolation)
    assert np.abs(ours.astype(int) - theirs).mean() < 0.01


def test_real_images_differ_from_pillow_by_less_than_a_hundredth(assets: Path) -> None:
    index = scan(assets / "data/dogs")
    off = []
    for path in index.splits["test"].paths[::20]:
        image = decode(read(Path(index.root, path)))
        height, width = image.shape[:2]
        scale = (256, 256 * width // height) if height <= width else (256 * height // width, 256)
        theirs = by_pillow(image, scale[0], scale[1], "bilinear")
        top, left = round((scale[0] - 256) / 2), round((scale[1] - 256) / 2)
        theirs = theirs[top : top + 256, left : left + 256]
        off.append(np.abs(square(image, Preprocess()).astype(int) - theirs).mean())
    assert np.mean(off) < 0.01


@pytest.mark.parametrize(("side", "short"), [(224, 160), (224, 128)])
def test_where_the_ratio_makes_ties_no_pixel_is_more_than_two_off(side: int, short: int) -> None:
    image = photo(side, side)
    off = np.abs(resized(image, short, short, "bilinear").astype(int) - by_pillow(image, short, short, "bilinear"))
    assert off.max() <= 2
    assert off.mean() < 0.1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(8, 48), st.integers(0, 40))
def test_fit_to_is_the_exact_centre_of_the_square(height: int, width: int, size: int, margin: int) -> None:
    preprocess = Preprocess(image_size=size, resize=size + margin)
    image = photo(height, width)
    whole = square(image, preprocess)
    at = round(margin / 2)
    assert whole.shape == (size + margin, size + margin, 3)
    assert (fit_to(image, preprocess) == whole[at : at + size, at : at + size]).all()
    assert whole.dtype == np.uint8
    assert whole.flags.c_contiguous


@pytest.mark.parametrize("shape", [(1, 50_000, 3), (50_000, 1, 3), (3, 9_000, 3), (1, 1, 3)])
def test_strips_and_dots_do_not_take_gigabytes(shape: tuple[int, int, int]) -> None:
    assert square(np.full(shape, 7, np.uint8), Preprocess()).tolist() == np.full((256, 256, 3), 7).tolist()


def test_a_read_only_or_turned_picture_is_taken_too() -> None:
    image = photo()
    expected = square(image, Preprocess())
    image.flags.writeable = False
    assert (square(image, Preprocess()) == expected).all()
    turned = np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1]
    assert (square(turned, Preprocess()) == expected).all()


def test_a_network_that_sees_more_than_the_square_is_refused() -> None:
    with pytest.raises(SpecError, match="image_size 224 is larger than resize 128"):
        fit_to(photo(), Preprocess(image_size=224, resize=128))
