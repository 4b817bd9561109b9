"""Folders that cannot be trained on: one clear sentence each, with the repair."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from houndsight.data.folder import scan
from houndsight.errors import DataError
from tests.data.pictures import classes, tree

TWO = {"cat": 10, "dog": 10}


def refused(data: str | Path) -> str:
    with pytest.raises(DataError) as caught:
        scan(data)
    assert caught.value.exit_code == 2
    assert caught.value.repair
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_path_that_does_not_exist_names_the_nearest_sibling(tmp_path: Path) -> None:
    tree(tmp_path / "dogImages", classes(TWO))
    said = refused(tmp_path / "dogImage")
    assert f"{tmp_path}/dogImage does not exist." in said
    assert f"Did you mean {tmp_path}/dogImages?" in said
    assert "Did you mean" in refused(tmp_path / "dogImags/train")
    assert "nothing of a similar name" in refused(tmp_path / "zzz")


def test_relative_paths_are_answered_relatively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "dogImages", classes(TWO))
    monkeypatch.chdir(tmp_path)
    assert refused("dogimage").endswith("Did you mean ./dogImages?")


@pytest.mark.parametrize("data", ["", "  ", "s3://bucket/prefix", "https://example.org/dogs.zip", "x" * 5000, "a\0b"])
def test_what_is_no_path_at_all(data: str) -> None:
    assert refused(data)


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    tree(tmp_path, ["dog.jpg", "dogs.zip"])
    assert "dog.jpg is a file, not a folder." in refused(tmp_path / "dog.jpg")
    assert "Unpack it" in refused(tmp_path / "dogs.zip")
    assert "does not exist" in refused(tmp_path / "dog.jpg/train")


def test_no_class_folders(tmp_path: Path) -> None:
    tree(tmp_path / "data", ["1.jpg", "2.jpg"])
    tree(tmp_path / "empty", [".hidden/1.jpg"])
    assert "has no class folders: 2 images lie directly in it." in refused(tmp_path / "data")
    assert "has no class folders." in refused(tmp_path / "empty")
    tree(tmp_path / "split", ["train/1.jpg", "valid/1.jpg"])
    assert "split/train has no class folders" in refused(tmp_path / "split")


def test_a_valid_folder_without_classes(tmp_path: Path) -> None:
    tree(tmp_path, [*classes(TWO, "train/"), "valid/1.jpg", "valid/2.jpg"])
    assert "valid holds 2 files but no class folders." in refused(tmp_path)


def test_folders_without_any_image(tmp_path: Path) -> None:
    tree(tmp_path, ["cat/1.txt", "dog/2.txt"])
    assert "holds no images" in refused(tmp_path)


@pytest.mark.parametrize("inside", ["dogImages", "a/b"])
@pytest.mark.parametrize("split", ["", "train/"])
def test_the_wrong_root_names_the_right_one(tmp_path: Path, inside: str, split: str) -> None:
    tree(tmp_path / inside, classes(TWO, split))
    assert f"Did you mean ./{inside}?" in refused(tmp_path)


def test_the_wrong_root_with_other_folders_beside(tmp_path: Path) -> None:
    tree(tmp_path, [*classes(TWO, "images/"), "annotations/cat/1.xml"])
    assert "Did you mean ./images?" in refused(tmp_path)
    tree(tmp_path / "more", [*classes(TWO, "dogs/train/"), *classes(TWO, "dogs/test/"), *classes(TWO, "other/")])
    said = refused(tmp_path / "more")
    assert "'dogs' holds a train folder" in said
    assert "./dogs" in said


def test_a_folder_of_one_class_names_the_folder_above(tmp_path: Path) -> None:
    tree(tmp_path / "data", classes(TWO))
    assert f"Did you mean the folder above, {tmp_path}/data?" in refused(tmp_path / "data/cat")


def test_splits_under_unknown_names_are_no_classes(tmp_path: Path) -> None:
    tree(tmp_path, [*classes(TWO, "training_set/"), *classes(TWO, "test_set/")])
    assert "'test_set' and 'training_set', which look like splits" in refused(tmp_path)


def test_splits_without_train(tmp_path: Path) -> None:
    tree(tmp_path, [*classes(TWO, "valid/"), *classes(TWO, "test/")])
    assert "no 'train' with class folders" in refused(tmp_path)


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    tree(tmp_path, [*classes(TWO, "train/"), *classes(TWO, "val/"), *classes(TWO, "dev/")])
    assert "has two valid folders, 'dev' and 'val'" in refused(tmp_path)


@pytest.mark.parametrize("under", ["", "train/"])
def test_one_class_only(tmp_path: Path, under: str) -> None:
    tree(tmp_path, classes({"cat": 10}, under))
    assert "holds one class only, 'cat'." in refused(tmp_path)


@pytest.mark.parametrize("under", ["", "train/"])
def test_an_empty_class_is_named(tmp_path: Path, under: str) -> None:
    tree(tmp_path, [*classes(TWO, under), f"{under}owl/", f"{under}yak/notes.txt"])
    assert "2 classes have no images: 'owl', 'yak'." in refused(tmp_path)


@pytest.mark.parametrize(
    ("one", "other"), [("Basset", "basset"), ("Basset hound", "Basset  Hound"), ("Basset ", "Basset")]
)
@pytest.mark.parametrize("unders", [("", ""), ("train/", "train/"), ("train/", "valid/")])
def test_names_that_differ_only_by_case_or_blanks(
    tmp_path: Path, one: str, other: str, unders: tuple[str, str]
) -> None:
    tree(tmp_path, classes({one: 3, "cat": 3}, unders[0]))
    tree(tmp_path, classes({other: 3, "cat": 3}, unders[1]))
    if len(list((tmp_path / unders[0]).iterdir())) < 3 and unders[0] == unders[1]:
        pytest.skip("this file system does not tell cases apart")
    said = refused(tmp_path)
    assert "differ only by case or blanks" in said
    assert repr(one) in said
    assert repr(other) in said


def test_splits_that_share_no_class(tmp_path: Path) -> None:
    tree(tmp_path, [*classes(TWO, "train/"), *classes({"owl": 2, "yak": 2}, "valid/")])
    assert "No class of valid ('owl', ...) is in train ('cat', ...)." in refused(tmp_path)


def test_too_few_images_to_validate_on(tmp_path: Path) -> None:
    tree(tmp_path, classes({"cat": 1, "dog": 1}))
    assert "leaves no image to validate on" in refused(tmp_path)


@contextmanager
def somebody_else() -> Iterator[None]:
    """Without root's rights, which no missing permission stops."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("closed", ["cat", "train/cat", "."])
def test_an_unreadable_folder(tmp_path: Path, closed: str) -> None:
    under = closed.removesuffix("cat").removesuffix(".")
    root = tree(tmp_path / "data", classes(TWO, under))
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o755)
    (root / closed).chmod(0)
    try:
        with somebody_else():
            said = refused(root)
    finally:
        (root / closed).chmod(0o755)
    assert "cannot be read: Permission denied." in said
    assert "chmod" in said
