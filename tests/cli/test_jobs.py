"""Commands about a trained job, typed: what people read, and the documents that programs rely on."""

from pathlib import Path

import pytest

from houndsight.verbs.job import Job

from ..verbs.conftest import COLOURS, colours, paint, pictures
from .conftest import Type

__all__ = ["colours", "pictures"]


@pytest.fixture
def typed_there(colours: Job, capsys: pytest.CaptureFixture[str]) -> Type:
    """Type a command in the workspace of the trained job."""
    from houndsight.cli.app import run

    from .conftest import Typed

    def run_here(*words: object) -> Typed:
        capsys.readouterr()
        code = run([str(word) for word in words])
        return Typed(code, *capsys.readouterr())

    return run_here


def test_jobs(typed_there: Type) -> None:
    said = typed_there("jobs")
    assert said.code == 0
    assert "colours" in said.out
    assert "COMPLETED" in said.out
    [entry] = typed_there("jobs", "--json").document
    assert (entry["job"], entry["state"]) == ("colours", "COMPLETED")
    assert set(entry["metrics"]) == {"test", "valid"}


def test_logs(colours: Job, typed_there: Type) -> None:
    assert typed_there("logs", "colours").out == colours.logs()
    assert typed_there("logs", "colours", "-f").code == 0
    assert typed_there("logs", "colours", "--json").document["lines"] == colours.logs().splitlines()


def test_stop_leaves_an_ended_job(typed_there: Type) -> None:
    assert typed_there("stop", "colours").out.startswith("colours: COMPLETED")
    assert typed_there("stop", "colours", "--json").document["state"] == "COMPLETED"


def test_report(colours: Job, typed_there: Type) -> None:
    assert typed_there("report", "colours").out.strip() == str(colours.files.report)
    assert typed_there("report", "colours", "--json").document["report"] == str(colours.files.report)


def test_predict(typed_there: Type, pictures: Path) -> None:
    image = pictures / "red" / "00.png"
    said = typed_there("predict", "colours", image, "--top", "2")
    assert said.code == 0
    assert len(said.out.splitlines()) == 3
    [entry] = typed_there("predict", "colours", image, "--json").document
    assert set(entry["predictions"][0]) == {"class", "probability"}
    assert {each["class"] for each in entry["predictions"]} == set(COLOURS)


def test_predict_answers_the_good_and_reports_the_bad(typed_there: Type, pictures: Path) -> None:
    said = typed_there("predict", "colours", pictures / "gone.png", pictures / "red" / "00.png")
    assert said.code == 2
    assert "gone.png" in said.err
    assert "00.png" in said.out


def test_evaluate(typed_there: Type, tmp_path: Path) -> None:
    data = paint(tmp_path / "fresh", per_class=5)
    document = typed_there("evaluate", "colours", data, "--json").document
    assert set(document["metrics"]["test"]["top1"]) == {"value", "low", "high", "n"}
    assert document["metrics"]["test"]["top1"]["n"] == 15
    said = typed_there("evaluate", "colours", "colours", data)
    assert said.code == 0
    assert "McNemar p 1" in said.out


def test_a_taken_name(typed_there: Type, pictures: Path) -> None:
    said = typed_there("train", pictures, "--name", "colours", "--json")
    assert said.code == 2
    assert said.document["error"]["kind"] == "WorkspaceError"


def test_a_complete_job_is_not_resumed(typed_there: Type) -> None:
    assert "complete" in typed_there("train", "--resume", "colours").err
