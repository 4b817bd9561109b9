"""The search for copies: what it must find, what it must not, and where it must say that it cannot tell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from houndsight.data import duplicates
from houndsight.data.overlay import SIDE, agreement
from tests.data_check.plant import Change, landscape


def miniature(image: Image.Image) -> duplicates.Bytes:
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(5)
    return [landscape(random, 120) for _ in range(300)]


CHANGES: dict[str, Change] = {
    "half": lambda image: image.resize((60, 60)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "cropped": lambda image: image.crop((6, 6, 114, 114)),
    "corner": lambda image: image.crop((0, 0, 112, 112)),
    "stretched": lambda image: image.resize((120, 90)),
    "mirrored": ImageOps.mirror,
    "cropped and mirrored": lambda image: ImageOps.mirror(image.crop((4, 4, 116, 116))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_copies_are_found(pictures: list[Image.Image], name: str) -> None:
    rows = [miniature(image) for image in pictures] + [miniature(CHANGES[name](image)) for image in pictures[:40]]
    found = duplicates.search(np.stack(rows), workers=2)
    assert found.bar == duplicates.SAME[0]
    assert [(pair.a, pair.b) for pair in found.pairs] == [(row, 300 + row) for row in range(40)]
    assert all(pair.mirrored == ("mirrored" in name) for pair in found.pairs)


def test_different_pictures_are_not(pictures: list[Image.Image]) -> None:
    assert duplicates.search(np.stack([miniature(image) for image in pictures])).pairs == []


def test_nothing_and_one_picture_and_flat_ones() -> None:
    for count in (0, 1, 5):
        flat = np.full((count, SIDE, SIDE), 7, np.uint8)
        assert duplicates.search(flat).pairs == []


def test_pictures_that_are_all_alike_are_not_called_copies() -> None:
    """Handwritten digits: thousands of pairs are as close as copies are, and none of them is one."""
    from sklearn.datasets import load_digits

    digits = (load_digits().images[:250] * 15.9).astype(np.uint8)
    large = [Image.fromarray(digit).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for digit in digits]
    found = duplicates.search(np.stack([np.asarray(image) for image in large]), workers=2)
    assert found.bar is None
    assert found.pairs == []
    assert found.alike


def test_agreement_is_one_for_a_picture_and_itself(pictures: list[Image.Image]) -> None:
    some_PSS = np.stack([miniature(image) for image in pictures[:8]]).astype(np.float32)
    assert agreement(some_PSS, some_PSS) == pytest.approx(np.ones(8), abs=1e-3)
    assert agreement(some_PSS, 255 - some_PSS).max() < 0.5
    assert agreement(some_PSS[:0], some_PSS[:0]).shape == (0,)


def test_copies_that_need_no_overlay(pictures: list[Image.Image]) -> None:
    rows = np.stack([miniature(image) for image in pictures[:20]])
    assert len(duplicates.search(np.concatenate([rows, rows])).pairs) == 20


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20))
def test_groups_are_what_is_connected(ties: list[tuple[int, int]]) -> None:
    found = duplicates.groups(ties)
    place = {row: number for number, group in enumerate(found) for row in group}
    assert len(place) == sum(map(len, found))
    assert all(place[a] == place[b] for a, b in ties)
    for group in found:
        reached = {group[0]}
        for _ in group:
            reached |= {end for tie in ties if reached & set(tie) for end in tie}
        assert reached == set(group)
