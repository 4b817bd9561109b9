"""Findings from names and counts, and their wording from the real scan's rejects."""

from pathlib import Path

import pytest

from houndsight.data.check import check
from houndsight.data.check_classes import near_equal
from houndsight.data.folder import scan
from houndsight.spec import Finding
from tests.data_check.plant import _jpeg, landscape


def tree(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    import numpy as np

    random = np.random.default_rng(seed)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / folder / f"{number}.jpg").write_bytes(_jpeg(landscape(random, 40)))
    return root


def rules(root: Path) -> dict[str, Finding]:
    return {each.rule: each for each in check(scan(root))}


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["Bipolar_down", "bipolar-Down", "other"], [("Bipolar_down", "bipolar-Down")]),
        (["Retriever", "Retreiver", "Retrievers"], [("Retreiver", "Retriever"), ("Retriever", "Retrievers")]),
        (["shepherd", "sheperd", "beagle"], [("shepherd", "sheperd")]),
        (["type_1", "type_2", "type_12"], []),
        (["0", "1", "2", "10"], []),
        (["1_euro", "2_euro", "5_euro"], []),
        (["001.Spaniel", "002.spaniel", "003.Boxer"], [("001.Spaniel", "002.spaniel")]),
        (["cat", "car", "bat"], []),
    ],
)
def test_near_equal_names(names: list[str], pairs: list[tuple[str, str]]) -> None:
    assert sorted(tuple(sorted(pair)) for pair in near_equal(names)) == sorted(tuple(sorted(pair)) for pair in pairs)


def test_a_thousand_names_are_compared_at_once() -> None:
    names = [
        f"{chr(97 + a)}{chr(97 + b)}{'xyzuvw'[c % 6]}{chr(97 + c)}{chr(97 + a * b % 26)}qq"
        for a in range(10)
        for b in range(10)
        for c in range(10)
    ]
    near_equal(names)


def test_classes_that_splits_do_not_share_and_files_that_are_no_images(tmp_path: Path) -> None:
    tree(tmp_path, {"train/a": 6, "train/b": 6, "valid/a": 4, "valid/zebra": 3})
    (tmp_path / "train/a/notes.txt").write_text("x")
    (tmp_path / "train/loose.jpg").write_bytes((tmp_path / "train/a/0.jpg").read_bytes())
    found = rules(tmp_path)
    assert len(found["unknown_class"].files) == 3
    assert "'zebra'" in found["unknown_class"].message
    assert "'b' has no images in valid" in found["missing_class"].message
    assert found["not_an_image"].severity == "info"
    assert found["outside_classes"].files == ("train/loose.jpg",)


def test_a_file_that_the_list_names_and_that_is_not_there(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 30, "b": 30})
    lines = [f"{label}/{number}.jpg,{label}" for label in "ab" for number in range(30)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines, "a/gone.jpg,a"]))
    assert rules(tmp_path / "list.csv")["missing_file"].files == ("a/gone.jpg",)


def test_imbalance_and_small_classes(tmp_path: Path) -> None:
    found = rules(tree(tmp_path, {"train/a": 45, "train/b": 3, "valid/a": 5, "valid/b": 5}))
    assert found["imbalance"].evidence["ratio"] == 15
    assert found["imbalance"].severity == "warning"
    assert "right for 94 %" in found["imbalance"].message
    assert found["small_class"].evidence["counts"] == {"b": 3}


def test_a_split_too_small_says_what_it_allows(tmp_path: Path) -> None:
    found = rules(tree(tmp_path, {"train/a": 5, "train/b": 5, "valid/a": 48, "valid/b": 48}))
    finding = found["small_split"]
    assert finding.severity == "warning"
    assert "With 96 valid images at 90 % accuracy the 95 % interval is ±6.1 points" in finding.message
