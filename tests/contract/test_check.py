"""Everything wrong with a script job is said at once, before anything is made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from houndsight.contract import check
from houndsight.errors import SpecError
from houndsight.verbs.run import run, script_spec
from houndsight.workspace import Workspace


@pytest.fixture
def script(tmp_path: Path) -> Path:
    place = tmp_path / "source" / "train_model.py"
    place.parent.mkdir()
    place.write_text("print(1)")
    return place


def test_all_at_once(script: Path, workspace: Workspace) -> None:
    (script.parent / "images").mkdir()
    with pytest.raises(SpecError) as caught:
        run(
            script.with_name("train_modle.py"),
            channels={"training": script.parent / "imagse", "bad name": script, "a": "s3://bucket/x"},
            hyperparameters={"k" * 257: 1, "a=b": 2, "big": "x" * 2600, "odd": {1, 2}, "nan": float("nan")},
            metrics={"broken": "(", "bare": "loss", "empty": "", **{f"m{n}": "(x)" for n in range(40)}},
            environment={"SM_MODEL_DIR": "x", "1A": "x", "TMPDIR": "/x"},
            max_seconds=-1,
        )
    message = caught.value.message
    for part in (
        "Did you mean 'train_model.py'?",
        "channels.training: there is no folder",
        "Did you mean 'images'?",
        "'bad name' is no name",
        "is a file; give the folder",
        "has 257 characters",
        "'a=b' holds",
        "2602 characters as JSON",
        "hyperparameters.odd: {1, 2} is no JSON value",
        "hyperparameters.nan: nan is no JSON value",
        "'(' is no regular expression",
        "'loss' has no group",
        "metrics.empty: ",
        "metrics: 43 are given",
        "environment.SM_MODEL_DIR: the training contract sets it",
        "'1A' is no name",
        "environment.TMPDIR",
        "max_seconds",
    ):
        assert part in message, part
    assert message.startswith("17 settings are wrong: ")
    assert not workspace.path.exists()


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"source_dir": "nowhere"}, "source_dir: there is no folder"),
        ({"channels": {"Train": ".", "train": "."}}, "would share SM_CHANNEL_TRAIN"),
        ({"channels": {f"c{n}": "." for n in range(21)}}, "21 are given"),
        ({"hyperparameters": {f"h{n}": n for n in range(101)}}, "101 are given"),
        ({"hyperparameters": {"sagemaker_mpi_enabled": True}}, "one process"),
        ({"hyperparameters": {"": 1}}, "has 0 characters"),
        ({"hyperparameters": {"x": "a\0b"}}, "NUL"),
    ],
)
def test_one_at_a_time(script: Path, settings: dict[str, Any], part: str) -> None:
    with pytest.raises(SpecError, match="wrong") as caught:
        script_spec(script, **settings)
    assert part in caught.value.message


def test_entry_points(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = script.parent
    assert script_spec(script).alone
    for given in ("train_model.py", script, root / "train_model.py"):
        spec = script_spec(given, source_dir=root)
        assert (spec.entry_point, spec.source_dir, spec.alone) == ("train_model.py", str(root), False)
    monkeypatch.chdir(root.parent)
    assert script_spec("source/train_model.py", source_dir="source").entry_point == "train_model.py"
    (root / "-x.py").write_text("")
    for wrong, part in (("../other.py", "not inside"), ("-x.py", "hyphen"), (".", "is a folder")):
        with pytest.raises(SpecError) as caught:
            script_spec(wrong, source_dir=root)
        assert part in caught.value.message


def test_a_source_folder_full_of_images(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (script.parent / "dogImages").mkdir()
    (script.parent / "dogImages" / "1.jpg").write_bytes(b"x" * 1000)
    monkeypatch.setattr(check, "MOST_BYTES", 500)
    with pytest.raises(SpecError, match="'dogImages'"):
        script_spec(script, source_dir=script.parent)
    script_spec(script, source_dir=script.parent, channels={"training": script.parent / "dogImages"})
    script_spec(script)


def test_values_become_json(script: Path) -> None:
    spec = script_spec(script, channels=script.parent, hyperparameters={"a": (1, 2), "b": np.float64(0.5), "c": None})
    assert spec.hyperparameters == {"a": [1, 2], "b": 0.5, "c": None}
    assert spec.channels == {"training": str(script.parent)}
    assert script_spec(script, channels={"x": f"file://{script.parent}"}).channels == {"x": str(script.parent)}
