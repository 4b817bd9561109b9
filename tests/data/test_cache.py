"""Decoding once: what is kept, when it is still true, what is left out, and what happens to a full disk."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from houndsight.data import store
from houndsight.data.cache import MAX_BYTES, OnTheFly, decode_all
from houndsight.data.folder import scan
from houndsight.data.images import decode, read, square
from houndsight.errors import DataError, DiskFullError, WorkspaceError
from houndsight.spec import Index, Preprocess
from tests.data.pictures import photo, photos, tree

PREPROCESS = Preprocess(image_size=24, resize=32)
COUNTS = {"cat": 25, "dog": 26}


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return scan(photos(tmp_path / "data", COUNTS))


def kept(cache: Path) -> set[str]:
    return {each.suffix for each in (cache / "decoded").iterdir()}


def again(cache: Path, caplog: pytest.LogCaptureFixture, index: Index, preprocess: Preprocess = PREPROCESS) -> bool:
    """Whether another call finds everything there."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    decode_all(index, preprocess, cache)
    return "Decoding" not in caplog.text


def test_every_square_is_the_image_s_own(index: Index, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    same, images = decode_all(
        index, PREPROCESS, tmp_path / "cache", progress=lambda *step: told.append(step), workers=3
    )
    assert same == index
    assert images.pixels.shape == (51, 32, 32, 3)
    for name, split in index.splits.items():
        for path, row in zip(split.paths, images.rows(name), strict=True):
            expected = square(decode(read(Path(index.root, path))), PREPROCESS)
            assert (np.asarray(images.pixels[row]) == expected).all()
    assert told[-1] == ("decoding", 51, 51)
    assert kept(tmp_path / "cache") == {".json", ".pixels", ".lock"}
    with pytest.raises(ValueError, match="read-only"):
        images.pixels[0] = 0  # type: ignore[index]


def test_it_is_found_again_until_something_changes(
    index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    decode_all(index, PREPROCESS, cache)
    assert again(cache, caplog, index)
    assert again(cache, caplog, index, PREPROCESS.model_copy(update={"image_size": 16, "mean": (0.5, 0.5, 0.5)}))
    assert not again(cache, caplog, index, PREPROCESS.model_copy(update={"resize": 40}))
    assert not again(cache, caplog, index, PREPROCESS.model_copy(update={"interpolation": "bicubic"}))
    place = tmp_path / "data/cat/0.jpg"
    before = place.read_bytes()
    place.write_bytes(before[:-20] + bytes(18) + before[-2:])
    assert scan(tmp_path / "data").fingerprint == index.fingerprint
    assert not again(cache, caplog, index)
    assert again(cache, caplog, index)
    assert len(list((cache / "decoded").glob("*.pixels"))) == 3


def test_a_moved_folder_is_still_known(index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    decode_all(index, PREPROCESS, tmp_path / "cache")
    (tmp_path / "data").rename(tmp_path / "moved")
    assert again(tmp_path / "cache", caplog, scan(tmp_path / "moved"))


def test_unreadable_files_are_left_out_named_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = photos(tmp_path / "data", {"cat": 30, "dog": 40}, "train/")
    photos(root, COUNTS, "valid/")
    whole = (root / "train/cat/0.jpg").read_bytes()
    (root / "train/cat/0.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train/cat/1.jpg").write_bytes(b"<!doctype html><title>404</title>")
    (root / "valid/dog/2.jpg").write_bytes(b"")
    before = scan(root)
    index, images = decode_all(before, PREPROCESS, tmp_path / "cache")
    assert {(each.path, each.split): each.reason for each in index.rejects} == {
        ("train/cat/0.jpg", "train"): "truncated JPEG: the file ends before the picture does",
        ("train/cat/1.jpg", "train"): "an HTML page, not an image",
        ("valid/dog/2.jpg", "valid"): "0 bytes",
    }
    assert index.fingerprint == before.fingerprint
    assert {name: len(split) for name, split in index.splits.items()} == {"train": 68, "valid": 50}
    assert len(images.rows("train")) == 68
    path = index.splits["train"].paths[0]
    assert (images.pixels[images.rows("train")[0]] == square(decode(read(root / path)), PREPROCESS)).all()
    assert "Left out, for they cannot be read: train/cat/0.jpg (truncated JPEG" in caplog.text
    same, rows = decode_all(index, PREPROCESS, tmp_path / "cache")
    assert same == index
    assert (rows.rows("train") == images.rows("train")).all()


@pytest.mark.parametrize(("bad", "refused"), [(1, False), (2, False), (3, True)])
def test_more_than_five_percent_of_a_split_is_refused(tmp_path: Path, bad: int, refused: bool) -> None:
    root = photos(tmp_path / "data", {"cat": 20, "dog": 20}, "train/")
    photos(root, {"cat": 2, "dog": 2}, "valid/")
    for number in range(bad):
        (root / f"train/dog/{number}.jpg").write_bytes(b"")
    if not refused:
        assert len(decode_all(scan(root), PREPROCESS, tmp_path / "cache")[0].rejects) == bad
        return
    with pytest.raises(DataError) as caught:
        decode_all(scan(root), PREPROCESS, tmp_path / "cache")
    assert "3 of the 40 images of train cannot be read, more than 5 %: train/dog/0.jpg (0 bytes)" in str(caught.value)


def test_a_class_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    root = photos(tmp_path / "data", {"cat": 60, "dog": 60, "owl": 1}, "train/")
    photos(root, {"cat": 2, "dog": 2, "owl": 2}, "valid/")
    (root / "train/owl/0.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="No image of train can be read of: 'owl'"):
        decode_all(scan(root), PREPROCESS, tmp_path / "cache")


def test_above_the_bound_images_are_decoded_when_asked_for(
    index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, images = decode_all(index, PREPROCESS, tmp_path / "a")
    same, flying = decode_all(index, PREPROCESS, tmp_path / "b", max_bytes=1000)
    assert isinstance(flying.pixels, OnTheFly)
    assert same == index
    assert "decoded again in every epoch" in caplog.text
    assert kept(tmp_path / "b") == {".json", ".lock"}
    assert flying.pixels.shape == images.pixels.shape
    assert len(flying.pixels) == 51
    rows = flying.rows("valid")
    for which in (3, slice(2, 9, 2), rows, (rows, slice(4, 28)), (5, slice(None), 0), rows[:0]):
        assert (np.asarray(flying.pixels[which]) == images.pixels[which]).all()
        assert flying.pixels[which].shape == images.pixels[which].shape
    _, found = decode_all(index, PREPROCESS, tmp_path / "b")
    assert not isinstance(found.pixels, OnTheFly)


def test_the_least_recently_used_goes_when_room_is_needed(tmp_path: Path) -> None:
    indexes = [scan(photos(tmp_path / f"data{number}", {"cat": 10 + number, "dog": 10})) for number in range(3)]
    size = 32 * 32 * 3
    for number, each in enumerate(indexes[:2]):
        decode_all(each, PREPROCESS, tmp_path / "cache", max_bytes=50 * size)
        place = max((tmp_path / "cache/decoded").glob("*.json"), key=lambda path: path.stat().st_mtime)
        os.utime(place, (1000 - number, 1000 - number))
    _, first = decode_all(indexes[0], PREPROCESS, tmp_path / "cache", max_bytes=50 * size)
    decode_all(indexes[2], PREPROCESS, tmp_path / "cache", max_bytes=50 * size)
    left = {each.stat().st_size // size for each in (tmp_path / "cache/decoded").glob("*.pixels")}
    assert left == {20, 22}
    assert first.pixels[0].any()


@pytest.mark.parametrize("harm", ["json", "short", "gone", "old"])
def test_a_damaged_cache_is_made_again(
    index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    cache = tmp_path / "cache"
    _, images = decode_all(index, PREPROCESS, cache)
    expected = np.array(images.pixels)
    (table,), (pixels,) = (cache / "decoded").glob("*.json"), (cache / "decoded").glob("*.pixels")
    if harm == "json":
        table.write_bytes(table.read_bytes()[:-30])
    elif harm == "old":
        table.write_text("{}")
    elif harm == "short":
        os.truncate(pixels, 1000)
    else:
        pixels.unlink()
    _, again_images = decode_all(index, PREPROCESS, cache)
    assert (np.asarray(again_images.pixels) == expected).all()
    assert len(list((cache / "decoded").glob("*.pixels"))) == 1


def test_an_interrupted_build_leaves_nothing(index: Index, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_all(index, PREPROCESS, tmp_path / "cache", progress=interrupt)
    assert kept(tmp_path / "cache") == {".lock"}


def test_a_build_larger_than_the_disk_is_refused_before_it_begins(index: Index, tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="GB free"):
        store.make_room(tree(tmp_path, []), "key", 1 << 60, 1 << 61)
    assert MAX_BYTES < 1 << 60


def test_a_disk_that_fills_up_meanwhile_is_said_and_left_clean(index: Index, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "none", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(DiskFullError, match=r"No room left on the disk|GB free"):
            decode_all(index, PREPROCESS, small)
        (small / "ballast").write_bytes(bytes(60_000))
        with pytest.raises(DiskFullError):
            decode_all(scan(photos(tmp_path / "few", {"cat": 12, "dog": 12})), PREPROCESS, small)
        assert not list((small / "decoded").glob("*.pixels"))
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_place_that_cannot_be_written(index: Index, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match="Cannot write to"):
        decode_all(index, PREPROCESS, tmp_path / "file")


def test_sizes_do_not_matter_to_small_classes(tmp_path: Path) -> None:
    root = tmp_path / "data"
    photos(root, {"a": 3, "b": 2, "c": 1})
    index, images = decode_all(scan(root), PREPROCESS, tmp_path / "cache")
    assert sum(len(images.rows(name)) for name in index.splits) == 6
    assert photo(1, 1).shape == (1, 1, 3)


CHILD = """
import os, signal, sys
from pathlib import Path
from houndsight.data.cache import decode_all
from houndsight.data.folder import scan
from houndsight.spec import Preprocess
def die(stage, done, total):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)
index, images = decode_all(scan(sys.argv[1]), Preprocess(image_size=24, resize=32), Path(sys.argv[2]),
                           progress=die if sys.argv[3] == "die" else None, workers=1)
print(int(images.pixels.astype("int64").sum()), len(images.rows("train")))
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_and_two_builders_at_once(tmp_path: Path) -> None:
    root = photos(tmp_path / "data", {"cat": 300, "dog": 300})
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", CHILD, str(root), str(cache)]
    killed = subprocess.run([*command, "die"], capture_output=True, check=False)
    assert killed.returncode == -9
    left = list((cache / "decoded").glob("*.pixels"))
    assert len(left) == 1
    assert not list((cache / "decoded").glob("*.json"))
    both = [subprocess.Popen([*command, "live"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [each.communicate(timeout=120)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert answers[0] == answers[1] != ""
    pixels = list((cache / "decoded").glob("*.pixels"))
    assert len(pixels) == 1
    assert pixels != left
    _, images = decode_all(scan(root), PREPROCESS, cache)
    assert answers[0].split() == [str(int(np.asarray(images.pixels).astype("int64").sum())), "480"]
