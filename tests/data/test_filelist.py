"""CSV file lists: columns, splits, and every way in which they can be wrong."""

from pathlib import Path

import pytest

from houndsight.data.folder import scan
from houndsight.errors import DataError
from tests.data.pictures import classes, tree

COUNTS = {"cat": 20, "dog": 20}
FILES = classes(COUNTS)


def listed(root: Path, text: str, encoding: str = "utf-8") -> Path:
    path = root / "list.csv"
    path.write_bytes(text.encode(encoding))
    return path


def rows(header: str = "path,label", sep: str = ",") -> str:
    return "\n".join([header, *(f"{name}{sep}{name.split('/')[0]}" for name in FILES)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path, FILES)


@pytest.mark.parametrize(
    ("header", "sep"), [("path,label", ","), ("Filename;Class", ";"), ("path\tlabel", "\t"), ("path, label", ", ")]
)
def test_path_and_label_are_split_by_class(root: Path, header: str, sep: str) -> None:
    index = scan(listed(root, rows(header, sep)))
    assert {name: len(split) for name, split in index.splits.items()} == {"train": 32, "valid": 4, "test": 4}
    assert index.classes == ("cat", "dog")
    assert index.root == str(root)


def test_a_byte_order_mark_blank_lines_and_quotes(root: Path) -> None:
    tree(root, ["a, b.jpg", "c.jpg"])
    text = rows() + '\n\n"a, b.jpg",cat\nc.jpg,dog\r\n\n'
    assert sum(map(len, scan(listed(root, text, "utf-8-sig")).splits.values())) == 42


def test_the_split_column(root: Path) -> None:
    words = ["train"] * 8 + ["Val", "test"]
    text = ["path,label,split"] + [f"{name},{name[:3]},{words[at % 10]}" for at, name in enumerate(FILES)]
    index = scan(listed(root, "\n".join(text)))
    assert {name: len(split) for name, split in index.splits.items()} == {"train": 32, "valid": 4, "test": 4}
    assert index.split_seed is None
    assert index.splits["valid"].paths == tuple(sorted(FILES[8::10]))


def test_absolute_paths_inside_become_relative_and_outside_stay(root: Path, tmp_path: Path) -> None:
    (root / "lists").mkdir()
    text = ["path,label"] + [f"{root / name},{name[:3]}" for name in FILES]
    inside = scan(listed(root, "\n".join(text)))
    assert inside.splits["train"].paths[0].startswith("cat/")
    outside = scan(listed(root / "lists", "\n".join([text[0], *(f"../{name},{name[:3]}" for name in FILES)])))
    assert outside.splits["train"].paths[0].startswith(str(root))
    assert all(Path(outside.root, path).is_file() for path in outside.splits["train"].paths)


def test_some_missing_files_are_named(root: Path) -> None:
    (root / FILES[3]).unlink()
    index = scan(listed(root, rows() + "\nlist.txt,cat"))
    tree(root, ["list.txt"])
    index = scan(root / "list.csv")
    assert {each.path: each.reason for each in index.rejects} == {
        FILES[3]: "does not exist",
        "list.txt": "not an image: .txt is not one of JPEG, PNG, WebP, BMP, GIF and TIFF",
    }


def test_an_exact_repetition_is_left_out(root: Path) -> None:
    index = scan(listed(root, f"{rows()}\n{FILES[0]},cat\n./{FILES[0]},cat"))
    assert [each.reason for each in index.rejects] == ["line 42 repeats line 2", "line 43 repeats line 2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no column 'path'"),
        ("cat/0.jpg,cat\ncat/1.jpg,cat", "names no column 'path'"),
        ("path,lable\ncat/0.jpg,cat", "names no column 'label'. Did you mean 'lable'?"),
        ("path,file,label", "two columns for the path"),
        ("path,label", "names no image for train"),
        ("path,label\ncat/0.jpg,cat\ncat/1.jpg,", "Line 3 of"),
        ("path,label\ncat/0.jpg", "has no label"),
        ("path,label,split\ncat/0.jpg,cat,trian", "'trian' is no split"),
        ("path,label,split\ncat/0.jpg,cat,", "has no split"),
        ("path,label,split\ncat/0.jpg,cat,test", "names no image for train"),
        (rows() + "\ncat/0.jpg,dog", "names cat/0.jpg twice with different labels or splits, in lines 2 and 42"),
        (rows() + "".join(f"\ngone{at}.jpg,cat" for at in range(5)), "5 of the 45 files in"),
        (rows() + "\ncat/../cat.jpg\0,cat", "has a path that no file can have"),
        ('path,label\n"cat/0.jpg,cat', "is not a CSV file in UTF-8"),
        (rows().replace(",dog", ",cat"), "holds 1 class only"),
        (rows() + "\nx.jpg,Cat", "differ only by case or blanks: 'Cat' and 'cat'"),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(root: Path, text: str, said: str) -> None:
    tree(root, ["x.jpg"])
    with pytest.raises(DataError) as caught:
        scan(listed(root, text))
    assert said in str(caught.value)
    assert caught.value.repair


def test_a_list_in_another_encoding(root: Path) -> None:
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        scan(listed(root, "path,label\ncafé.jpg,cat", "latin-1"))
