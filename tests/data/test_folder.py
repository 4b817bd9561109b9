"""What a good folder becomes: splits, classes by name, odd names, links, rejects."""

import logging
import os
import sys
import time
import unicodedata
from pathlib import Path

import pytest

from houndsight.data.folder import scan
from houndsight.spec import Index
from tests.data.pictures import classes, photo, tree

THREE = {"cat": 20, "dog": 30, "owl": 10}


def sizes(index: Index) -> dict[str, int]:
    return {name: len(split) for name, split in index.splits.items()}


def reasons(index: Index) -> dict[str, str]:
    return {each.path: each.reason for each in index.rejects}


@pytest.mark.parametrize("valid", ["valid", "val", "validation", "dev", "Val", "VALIDATION"])
def test_folders_with_splits_are_taken_as_they_are(tmp_path: Path, valid: str) -> None:
    names = [*classes(THREE, "Train/"), *classes({"cat": 2, "dog": 3, "owl": 1}, f"{valid}/")]
    index = scan(tree(tmp_path, [*names, *classes({"cat": 1, "dog": 1, "owl": 1}, "TEST/")]))
    assert sizes(index) == {"train": 60, "valid": 6, "test": 3}
    assert index.classes == ("cat", "dog", "owl")
    assert index.split_seed is None
    assert index.splits["valid"].paths[0] == f"{valid}/cat/0.jpg"
    assert index.splits["valid"].labels == (0, 0, 1, 1, 1, 2)
    assert index.root == str(tmp_path)


def test_class_folders_alone_are_split_80_10_10_class_by_class(tmp_path: Path) -> None:
    index = scan(tree(tmp_path, classes(THREE)), split_seed=3)
    assert sizes(index) == {"train": 48, "valid": 6, "test": 6}
    assert [index.splits["valid"].labels.count(label) for label in range(3)] == [2, 3, 1]
    assert index.split_seed == 3


def test_the_split_is_the_same_wherever_and_in_whatever_order_the_files_were_made(tmp_path: Path) -> None:
    names = classes(THREE)
    first, second = scan(tree(tmp_path / "a", names)), scan(tree(tmp_path / "b", reversed(names)))
    assert first.splits == second.splits
    assert first.fingerprint == second.fingerprint
    other = scan(tmp_path / "a", split_seed=1)
    assert other.splits != first.splits
    assert other.fingerprint != first.fingerprint


def test_the_fingerprint_tells_path_size_label_and_split(tmp_path: Path) -> None:
    names = [*classes({"cat": 3, "dog": 3}, "train/"), *classes({"cat": 2, "dog": 2}, "valid/")]
    seen = {scan(tree(tmp_path / "0", names)).fingerprint}
    (tree(tmp_path / "1", names) / "train/cat/0.jpg").write_bytes(b"larger")
    (tree(tmp_path / "2", names) / "train/cat/0.jpg").rename(tmp_path / "2/train/cat/9.jpg")
    (tree(tmp_path / "3", names) / "train/cat/2.jpg").rename(tmp_path / "3/train/dog/9.jpg")
    (tree(tmp_path / "4", names) / "train/cat/2.jpg").rename(tmp_path / "4/valid/cat/9.jpg")
    seen |= {scan(tmp_path / str(number)).fingerprint for number in range(1, 5)}
    assert len(seen) == 5
    (tmp_path / "0").rename(tmp_path / "moved")
    assert scan(tmp_path / "moved").fingerprint in seen


def test_without_valid_a_tenth_of_train_is_taken_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    index = scan(tree(tmp_path, [*classes(THREE, "train/"), *classes({"cat": 2, "dog": 2, "owl": 2}, "test/")]))
    assert sizes(index) == {"train": 54, "valid": 6, "test": 6}
    assert index.split_seed == 0
    assert "a tenth of train is taken for validation" in caplog.text


def test_without_test_there_is_no_test_split(tmp_path: Path) -> None:
    index = scan(tree(tmp_path, [*classes(THREE, "train/"), *classes({"cat": 2, "dog": 2, "owl": 2}, "valid/")]))
    assert sizes(index) == {"train": 60, "valid": 6}


def test_a_train_folder_alone_is_split(tmp_path: Path) -> None:
    index = scan(tree(tmp_path, classes(THREE, "train/")))
    assert sizes(index) == {"train": 48, "valid": 6, "test": 6}
    assert index.classes == ("cat", "dog", "owl")


def test_an_unlabelled_test_folder_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = scan(tree(tmp_path, [*classes(THREE, "train/"), "test/1.jpg", "test/2.jpg"]))
    assert sizes(index) == {"train": 48, "valid": 6, "test": 6}
    assert reasons(index) == {"test": "holds 2 files but no class folders"}
    assert "there is no test split" in caplog.text


def test_trains_are_a_class_where_their_folder_holds_pictures(tmp_path: Path) -> None:
    assert scan(tree(tmp_path, classes({"bus": 10, "train": 10}))).classes == ("bus", "train")


def test_nested_folders_belong_to_the_class_and_hidden_things_to_nobody(tmp_path: Path) -> None:
    names = ["cat/a/b/1.jpg", "cat/2.JPG", "cat/3.jpeg", "dog/x.y/1.png", "dog/2.webp", "dog/3.gif"]
    hidden = [".git/1.jpg", "cat/.4.jpg", "cat/.ipynb_checkpoints/2.jpg", "__MACOSX/cat/1.jpg", "cat/Thumbs.db"]
    index = scan(tree(tmp_path, [*names, *hidden]))
    assert sorted(path for split in index.splits.values() for path in split.paths) == sorted(names)
    assert index.rejects == ()


def test_what_is_no_image_is_rejected_with_its_reason(tmp_path: Path) -> None:
    root = tree(
        tmp_path, [*classes({"cat": 3, "dog": 3}), "cat/notes.txt", "cat/pic.heic", "cat/noending", "loose.jpg"]
    )
    tree(root, ["README.md"])
    (root / "dog/really").write_bytes(b"\xff\xd8\xff\xe0 and so on")
    os.mkfifo(root / "dog/pipe.jpg")
    (root / "dog/gone.jpg").symlink_to(root / "nowhere.jpg")
    index = scan(root)
    assert {path: reason.split(",")[0] for path, reason in reasons(index).items()} == {
        "cat/notes.txt": "not an image: .txt is not one of JPEG",
        "cat/pic.heic": "not an image: .heic is not one of JPEG",
        "cat/noending": "not an image: it has no ending and is not one of JPEG",
        "dog/pipe.jpg": "a device",
        "dog/gone.jpg": "a link that leads nowhere",
        "loose.jpg": "lies outside the class folders",
    }
    assert "dog/really" in {path for split in index.splits.values() for path in split.paths}


def test_links_are_followed_once_and_never_round(tmp_path: Path) -> None:
    root = tree(tmp_path / "data", ["cat/1.jpg", "cat/2.jpg", "cat/deep/3.jpg", "dog/1.jpg", "dog/2.jpg"])
    elsewhere = tree(tmp_path / "elsewhere", ["1.jpg", "2.jpg", "sub/3.jpg"])
    (root / "owl").symlink_to(elsewhere)
    (root / "cat/a_round").symlink_to(root / "cat")
    (root / "cat/a_up").symlink_to(root)
    (root / "cat/a_deep").symlink_to(root / "cat/deep")
    (elsewhere / "back").symlink_to(root / "owl")
    (root / "dog/4.jpg").symlink_to(elsewhere / "1.jpg")
    index = scan(root)
    paths = [path for split in index.splits.values() for path in split.paths]
    assert index.classes == ("cat", "dog", "owl")
    assert {"owl/1.jpg", "owl/sub/3.jpg", "dog/4.jpg", "cat/deep/3.jpg"} <= set(paths)
    assert sum(path.startswith("cat/deep") for path in paths) == 1
    assert not any(path.startswith(("cat/a_round", "cat/a_deep", "owl/back")) for path in paths)


def test_odd_names_are_kept_and_accents_are_one_class_however_they_are_written(tmp_path: Path) -> None:
    composed, apart = unicodedata.normalize("NFC", "Épagneul"), unicodedata.normalize("NFD", "Épagneul")
    odd = {"St. Bernard (large)": 3, "柴犬": 3, "a'b\"c": 3, "-rf": 3}
    names = [*classes({**odd, apart: 3}, "train/"), *classes({**odd, composed: 2}, "valid/")]
    index = scan(tree(tmp_path, names))
    assert set(index.classes) == {*odd, composed}
    assert sizes(index) == {"train": 15, "valid": 14}
    assert index.rejects == ()
    assert Index.model_validate_json(index.model_dump_json()) == index
    assert all((tmp_path / path).is_file() for path in index.splits["train"].paths)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses such names itself")
def test_a_name_that_is_no_utf8_is_rejected_and_can_be_written_down(tmp_path: Path) -> None:
    tree(tmp_path, classes({"cat": 5, "dog": 5}))
    (tmp_path / "cat" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"-")
    index = scan(tmp_path)
    assert reasons(index) == {"cat/caf\\xe9.jpg": "its name is not valid UTF-8"}
    index.model_dump_json()


def test_classes_that_a_split_lacks_or_has_alone_are_named_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, valid = classes(THREE, "train/"), classes({"cat": 2, "dog": 2, "zebra": 6}, "valid/")
    index = scan(tree(tmp_path, [*train, *valid, "valid/owl/", *classes({"owl": 1, "yak": 1}, "test/")]))
    assert sizes(index) == {"train": 60, "valid": 4, "test": 1}
    assert index.splits["test"].labels == (2,)
    said = reasons(index)
    assert said["valid/zebra/0.jpg"] == "its class 'zebra' is not in train"
    assert said["test/yak/0.jpg"] == "its class 'yak' is not in train"
    assert said["valid/owl"] == "class 'owl' has no images in valid"
    assert sum("zebra" in reason for reason in said.values()) == 6
    assert "Class 'zebra' of valid is not in train: its 6 images are left out." in caplog.text
    assert "No images in test of: 'cat', 'dog'." in caplog.text


def test_folders_beside_the_splits_are_named(tmp_path: Path) -> None:
    names = [*classes(THREE, "train/"), *classes({"cat": 1, "dog": 1, "owl": 1}, "valid/"), "docs/a/1.jpg"]
    assert reasons(scan(tree(tmp_path, names))) == {"docs": "a folder beside train, valid and test is not read"}


def test_train_given_alone_while_valid_lies_beside_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, [*classes(THREE, "train/"), *classes(THREE, "valid/")])
    assert scan(tmp_path / "train").classes == ("cat", "dog", "owl")
    assert "'valid' lies beside it" in caplog.text


def test_8351_files_are_scanned_well_under_two_seconds(tmp_path: Path) -> None:
    for number in range(133):
        (tmp_path / f"{number:03}.Breed").mkdir()
    for number in range(8_351):
        (tmp_path / f"{number % 133:03}.Breed/Breed_{number:05}.jpg").touch()
    start = time.process_time()
    index = scan(tmp_path)
    assert time.process_time() - start < 2
    assert sum(sizes(index).values()) == 8_351


def test_the_dogs_pack(assets: Path) -> None:
    index = scan(assets / "data/dogs")
    assert sizes(index) == {"train": 2_520, "valid": 689, "test": 696}
    assert len(index.classes) == 70
    assert index.rejects == ()


def test_the_picture_helper_is_no_symmetric_one() -> None:
    image = photo()
    assert not (image == image[::-1]).all()
    assert not (image == image[:, ::-1]).all()
