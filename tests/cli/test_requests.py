"""Wrong requests: one sentence, exit code 2, nothing left behind; in `--json` mode as a document."""

from pathlib import Path

import pytest

from houndsight.workspace import Workspace

from .conftest import Type

WRONG = {
    "trian photos": "There is no command 'trian'. Did you mean 'train'?",
    "train": "No data was given.",
    "train photos --epohcs 3": "There is no option --epohcs. Did you mean '--epochs'",
    "train photos --epohcs 3 --bach-size=4": "There is no option --bach-size. Did you mean '--batch-size'",
    "train photos --epochs": "--epochs requires an argument",
    "train --resume nothing": "There is no job 'nothing'",
    "train photos --resume dogs": "A resumed job keeps its data, name and settings.",
    "train nowhere": "does not exist",
    "evaluate dogs": "takes one or two models and then the images",
    "evaluate a b c d": "takes one or two models and then the images",
    "evaluate nothing photos": "'nothing' is neither a job",
    "predict": "MODEL requires an argument",
    "predict dogs": "No images were given.",
    "predict nothing a.jpg": "'nothing' is neither a job",
    "predict no/where a.jpg": "There is no model at no/where.",
    "predict dogs a.jpg --top 0": "top: must be 1 or more",
    "predict dogs a.jpg --top many": "--top",
    "report nothing": "There is no job 'nothing'",
    "logs nothing": "There is no job 'nothing'",
    "stop nothing": "There is no job 'nothing'",
    "jobs of mine": "Nobody asked for 'of', 'mine'.",
    "weights ad": "There is no command 'ad'. Did you mean 'add'?",
    "weights add nothing.pth": "There is no file 'nothing.pth'.",
    "weights add nothing.pth --name resnet18": "does not exist",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_request_is_one_sentence(line: str, typed: Type, workspace: Workspace) -> None:
    said = typed(*line.split())
    assert said.code == 2
    assert said.out == ""
    assert WRONG[line] in " ".join(said.err.split())
    assert "Traceback" not in said.err
    assert not workspace.path.exists()


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_request_is_a_document(line: str, typed: Type) -> None:
    said = typed(*line.split(), "--json")
    assert said.code == 2
    assert set(said.document["error"]) == {"kind", "message", "repair"}
    assert WRONG[line] in f"{said.document['error']['message']} {said.document['error']['repair']}"


def test_all_wrong_settings_are_named_at_once(typed: Type, tmp_path: Path) -> None:
    words = "--lr -1 --epochs 0 --steps 5 --hidden 3,x --freeze half --batch-size many --warmup=2"
    message = typed("train", tmp_path, *words.split(), "--json").document["error"]["message"]
    for name in ("lr", "epochs", "hidden", "freeze", "batch_size", "warmup"):
        assert name in message


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("--freeze 3", {"freeze": "3"}),
        ("--freeze all", {"freeze": "all"}),
        ("--hidden 256,128", {"hidden": ["256", "128"]}),
        ("--hidden=64", {"hidden": ["64"]}),
        ("--lr 1e-4 --weight-decay=0", {"lr": "1e-4", "weight_decay": "0"}),
    ],
)
def test_flags_become_settings_as_people_type_them(words: str, value: dict[str, object]) -> None:
    from houndsight.cli.parse import build
    from houndsight.cli.settings import as_settings
    from houndsight.spec import ClassifierSpec

    _, bound, unused, _ = build().parse_known_args(["train", "photos", *words.split()])
    assert not unused
    settings = as_settings(bound.arguments["settings"])
    assert settings == value
    assert ClassifierSpec.create(data="photos", **settings)


def test_a_negative_number_is_a_value(typed: Type, tmp_path: Path) -> None:
    assert "lr: Input should be greater than 0" in typed("train", tmp_path, "--lr", "-1e-4").err


def test_a_flag_given_twice_is_refused(typed: Type) -> None:
    assert typed("train", "photos", "--lr", "1", "--lr", "2").code == 2


def test_help_and_version_go_to_standard_output(typed: Type) -> None:
    for words in (["--help"], ["train", "--help"], ["weights", "--help"], ["--version"], []):
        said = typed(*words)
        assert said.code == 0
        assert said.out
        assert said.err == ""


def test_no_jobs_yet(typed: Type) -> None:
    assert typed("jobs", "--json").document == []
    assert "houndsight train FOLDER" in typed("jobs").out
    assert typed("weights", "list", "--json").document == []
