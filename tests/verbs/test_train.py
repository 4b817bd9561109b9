"""Training and what follows from Python: one real run, in this process."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import houndsight
from houndsight.errors import DataError, ModelError, SpecError, WorkspaceError
from houndsight.verbs.job import Job
from houndsight.workspace import Workspace

from .conftest import COLOURS, SETTINGS, paint


def test_a_job_knows_what_came_of_it(colours: Job) -> None:
    assert colours.name == "colours"
    assert colours.state == "COMPLETED"
    assert colours.error is None
    assert set(colours.metrics) == {"test", "valid"}
    top1 = colours.metrics["test"]["top1"]
    assert 0 <= top1.low <= top1.value <= top1.high <= 1
    assert top1.n == 6
    assert colours.report is not None
    assert colours.model is not None
    assert colours.records.scalars("loss")
    assert colours.wait(1).stop().state == "COMPLETED"


def test_the_document_is_what_programs_rely_on(colours: Job) -> None:
    document = json.loads(json.dumps(colours.document()))
    wanted = {"job", "state", "folder", "model", "report", "seconds", "metrics", "findings"}
    assert wanted <= set(document)
    assert set(document["metrics"]["test"]["top1"]) == {"value", "low", "high", "n"}
    assert document["seconds"] > 0


def test_jobs_are_found_again(colours: Job) -> None:
    assert [each.name for each in houndsight.jobs()] == ["colours"]
    assert houndsight.open_job("colours") == colours
    assert houndsight.stop("colours").state == "COMPLETED"
    with pytest.raises(WorkspaceError, match="Did you mean 'colours'"):
        houndsight.open_job("colour")


def test_a_complete_job_is_not_resumed(colours: Job) -> None:
    with pytest.raises(WorkspaceError, match="complete"):
        houndsight.resume("colours")


def test_the_report_is_rebuilt(colours: Job) -> None:
    page = houndsight.report("colours")
    before = page.read_bytes()
    page.unlink()
    assert houndsight.report("colours").read_bytes() == before


def test_a_taken_name_is_refused_before_anything_is_written(colours: Job, pictures: Path) -> None:
    before = sorted(colours.folder.rglob("*"))
    with pytest.raises(WorkspaceError, match="exists already"):
        houndsight.train(pictures, name="colours", **SETTINGS)
    assert sorted(colours.folder.rglob("*")) == before


def test_wrong_requests_leave_no_job(workspace: Workspace, pictures: Path) -> None:
    with pytest.raises(SpecError, match="3 settings are wrong"):
        houndsight.train(pictures, lr=-1, epohcs=3, batch_size=0)
    with pytest.raises(DataError, match="does not exist"):
        houndsight.train(pictures / "nowhere")
    with pytest.raises(WorkspaceError, match="no back end 'cloud'"):
        houndsight.train(pictures, backend="cloud")  # type: ignore[arg-type]
    with pytest.raises(WorkspaceError, match="cannot be the name"):
        houndsight.train(pictures, name="../up", **SETTINGS)
    assert not workspace.path.exists() or workspace.names() == []


def test_a_job_that_the_worker_refuses_leaves_nothing(workspace: Workspace, pictures: Path) -> None:
    with pytest.raises(ModelError, match="shuflenet_v2_x0_5"):
        houndsight.train(pictures, backend="inline", **SETTINGS | {"backbone": "shuflenet_v2_x0_5"})
    assert list(workspace.jobs.iterdir()) == []


def test_relative_paths_are_kept_absolute(
    workspace: Workspace, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures.parent)
    with pytest.raises(ModelError):
        houndsight.train("pictures", backend="inline", **SETTINGS | {"weights": "none.pth"})
    job = houndsight.train("pictures", backend="inline", **SETTINGS | {"steps": 1})
    assert json.loads(job.files.spec.read_bytes())["data"] == str(pictures)


class TestPredict:
    """The same answer from the job, its folder and its archive."""

    def test_the_same_from_job_folder_and_archive(self, colours: Job) -> None:
        images = sorted(colours.folder.parents[1].with_name("pictures").rglob("*.png"))[::7]
        answers = [
            houndsight.predict(model, images, top=3)
            for model in ("colours", colours.folder, colours.files.model, colours.files.model_archive)
        ]
        for answer in answers:
            assert [each["image"] for each in answer] == [str(each) for each in images]
            for mine, first in zip(answer, answers[0], strict=True):
                assert [each["class"] for each in mine["predictions"]] == [
                    each["class"] for each in first["predictions"]
                ]
                assert np.allclose(
                    [each["probability"] for each in mine["predictions"]],
                    [each["probability"] for each in first["predictions"]],
                    atol=1e-5,
                )
                assert {each["class"] for each in mine["predictions"]} == set(COLOURS)
                assert math.isclose(sum(each["probability"] for each in mine["predictions"]), 1, abs_tol=1e-6)

    def test_one_broken_image_hurts_no_other(self, colours: Job, pictures: Path) -> None:
        broken = pictures / "broken.jpg"
        broken.write_text("<html>not found</html>")
        good, bad, gone = houndsight.predict("colours", [pictures / "red" / "00.png", broken, pictures / "gone.png"])
        assert len(good["predictions"]) == 3
        assert "error" not in good
        for each in (bad, gone):
            assert each["predictions"] == []
            assert each["error"]["kind"] == "ImageError"

    def test_a_single_path_is_one_image(self, colours: Job, pictures: Path) -> None:
        assert len(houndsight.predict("colours", str(pictures / "red" / "00.png"), top=1)) == 1

    @pytest.mark.parametrize("name", ["nothing", "no/such.tar.gz"])
    def test_no_such_model(self, name: str, colours: Job) -> None:
        with pytest.raises((ModelError, WorkspaceError)):
            houndsight.predict(name, ["a.png"])


class TestEvaluate:
    """Which images are measured, and against what."""

    def test_the_held_out_images_again(self, colours: Job) -> None:
        measured = houndsight.evaluate("colours", colours.folder.parents[1].with_name("pictures"))
        assert measured.images == "the test split"
        for name, measure in colours.metrics["test"].items():
            assert measured.metrics[name].value == pytest.approx(measure.value, abs=1e-5)

    def test_other_data_is_measured_whole(self, colours: Job, tmp_path: Path) -> None:
        measured = houndsight.evaluate(colours.files.model_archive, paint(tmp_path / "other", per_class=8, seed=1))
        assert measured.images == "all images"
        assert measured.metrics["top1"].n == 24

    def test_a_test_split_of_its_own_is_taken(self, colours: Job, tmp_path: Path) -> None:
        for seed, split in enumerate(("train", "test")):
            paint(tmp_path / "split" / split, per_class=10 * (seed + 1), seed=seed)
        measured = houndsight.evaluate("colours", tmp_path / "split")
        assert (measured.images, measured.metrics["top1"].n) == ("the test split", 60)

    def test_unknown_classes_are_left_out(self, colours: Job, tmp_path: Path) -> None:
        data = paint(tmp_path / "more", per_class=8)
        shutil.copytree(data / "red", data / "crimson")
        measured = houndsight.evaluate("colours", data)
        assert measured.images == "all images of known classes"
        assert measured.metrics["top1"].n == 24
        for name in COLOURS:
            (data / name).rename(data / f"{name}ish")
        with pytest.raises(DataError, match="knows none of the classes"):
            houndsight.evaluate("colours", data)

    def test_two_models_on_the_same_images(self, colours: Job, tmp_path: Path) -> None:
        measured = houndsight.evaluate("colours", paint(tmp_path / "other", per_class=8), colours.files.model)
        document = json.loads(json.dumps(measured.document()))
        assert document["comparison"]["difference"]["value"] == 0
        assert document["comparison"]["mcnemar"]["p_value"] == 1
        assert document["other"]["metrics"] == document["metrics"]
