"""Plants sixteen kinds of fault into a folder of images, so that recall and false alarms can be counted."""

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Change = Callable[[Image.Image], Image.Image]

RULE_OF = {
    "truncated": "unreadable",
    "html": "unreadable",
    "empty": "unreadable",
    "exact duplicate": "exact_duplicates",
    "exact leak": "exact_leak",
    "exact contradiction": "exact_contradiction",
    "re-encoded duplicate": "near_duplicates",
    "resized leak": "near_leak",
    "cropped leak": "near_leak",
    "mirrored leak": "near_leak",
    "brightened contradiction": "near_contradiction",
    "constant": "constant",
    "tiny": "tiny",
    "extreme aspect": "extreme_aspect",
    "grey": "grey",
    "no image": "not_an_image",
}
"""Kind of fault -> the rule that is to find it."""


@dataclass
class Planted:
    """What was planted: kind -> files that are wrong now, and the sound files that copies were made of."""

    files: dict[str, list[str]] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)


def grow(root: Path, *, classes: int = 4, train: int = 130, held: int = 65, side: int = 72, seed: int = 0) -> None:
    """Write a sound tree of random coloured landscapes, every one different: train, valid and test of some classes."""
    random = np.random.default_rng(seed)
    for split, count in (("train", train), ("valid", held), ("test", held)):
        for label in range(classes):
            folder = root / split / f"kind {'abcdefgh'[label] * 3}"
            folder.mkdir(parents=True)
            for number in range(count):
                landscape(random, side).save(folder / f"{split}_{label}_{number:03}.jpg", quality=90)


def landscape(random: np.random.Generator, side: int) -> Image.Image:
    """Blobs of three sizes in random colours."""
    layers = [
        Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8)).resize((side, side), 3)
        for cells in (4, 9, 20)
    ]
    return Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.25)


def plant(root: Path, *, count: int = 20, seed: int = 1) -> Planted:
    """Plant `count` faults of each kind into the tree at `root`, each made of another sound file."""
    random = np.random.default_rng(seed)
    planted = Planted()
    pool = sorted((root / "train").glob("*/*.jpg"))
    random.shuffle(pool)
    for kind in RULE_OF:
        taken = [pool.pop() for _ in range(count)]
        planted.files[kind] = [_apply(kind, root, path, number) for number, path in enumerate(taken)]
        planted.sources[kind] = [path.relative_to(root).as_posix() for path in taken]
    return planted


def _apply(kind: str, root: Path, path: Path, number: int) -> str:
    other_split = root / ("valid", "test")[number % 2] / path.parent.name / f"copy_{path.name}"
    classes = sorted(each.name for each in path.parent.parent.iterdir())
    other_class = path.parent.parent / classes[(classes.index(path.parent.name) + 1) % len(classes)] / f"c_{path.name}"
    beside = path.with_name(f"copy_{path.name}")
    data = path.read_bytes()
    in_place: dict[str, Callable[[], bytes]] = {
        "truncated": lambda: data[: len(data) * (3 + number % 6) // 10],
        "html": lambda: b"<!DOCTYPE html><html><body>403 Forbidden</body></html>",
        "empty": lambda: b"",
        "constant": lambda: _jpeg(Image.new("RGB", (64, 64), (10 * number % 256, 200, 90))),
        "tiny": lambda: _jpeg(_open(path).resize((14, 9 + number % 8))),
        "extreme aspect": lambda: _jpeg(_open(path).resize((400, 50 + number % 40))),
        "grey": lambda: _jpeg(ImageOps.grayscale(_open(path)).convert("RGB")),
    }
    copies: dict[str, tuple[Path, Change | None]] = {
        "exact duplicate": (beside, None),
        "exact leak": (other_split, None),
        "exact contradiction": (other_class, None),
        "re-encoded duplicate": (beside, lambda image: image),
        "resized leak": (other_split, lambda image: _scaled(image, 0.5 + 0.05 * (number % 20))),
        "cropped leak": (other_split, lambda image: _cropped(image, 0.01 + 0.002 * (number % 20))),
        "mirrored leak": (other_split, ImageOps.mirror),
        "brightened contradiction": (other_class, lambda image: ImageEnhance.Brightness(image).enhance(1.2)),
    }
    if kind in in_place:
        path.write_bytes(in_place[kind]())
        return path.relative_to(root).as_posix()
    if kind == "no image":
        path = path.with_suffix(".txt")
        path.write_text("notes\n")
        return path.relative_to(root).as_posix()
    place, change = copies[kind]
    if change is None:
        shutil.copy(path, place)
    else:
        place.write_bytes(_jpeg(change(_open(path)), quality=60))
    return place.relative_to(root).as_posix()


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _scaled(image: Image.Image, by: float) -> Image.Image:
    return image.resize((round(image.width * by), round(image.height * by)), Image.Resampling.LANCZOS)


def _cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    return image.crop(
        (round(width * share), round(height * share), round(width * (1 - share)), round(height * (1 - share)))
    )


def _jpeg(image: Image.Image, quality: int = 90) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def tally(
    planted: Planted, flagged: dict[str, set[str]], before: dict[str, set[str]]
) -> Iterator[tuple[str, int, int]]:
    """(kind, planted files found by its rule, files that the rule flags without a reason) for each kind.

    `before` is what the rules flagged in the tree before anything was planted.
    """
    for kind, rule in RULE_OF.items():
        found = flagged.get(rule, set())
        meant = {
            path
            for each, of_rule in RULE_OF.items()
            if of_rule == rule
            for path in (*planted.files[each], *planted.sources[each])
        }
        yield kind, len(found & set(planted.files[kind])), len(found - meant - before.get(rule, set()))
