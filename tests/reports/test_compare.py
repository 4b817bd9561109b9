"""Two jobs on one page: settings, the paired test, speed, layers; what a CI run is failed for; what notebooks show."""

import json
from pathlib import Path

import numpy as np
import pytest

from houndsight.cli.app import run
from houndsight.errors import SpecError
from houndsight.folders import JobFolder
from houndsight.records.writer import RecordWriter
from houndsight.reports import compare, comparison, summary, tensors
from houndsight.reports.compare import Comparison
from houndsight.reports.evidence import gather as lines_of
from houndsight.reports.heat import encode
from houndsight.reports.notebook import Findings
from houndsight.spec import Finding, Index, LoopSpec
from houndsight.verbs import report as verb
from houndsight.verbs.job import open_job
from houndsight.workspace import Workspace

from .factory import make_job
from .test_html import Reader


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two jobs on the same images, the second right where the first errs on 12 of them."""
    folder = tmp_path_factory.mktemp("two") / "runs"
    jobs = [make_job(folder, name, steps=40, per_class=6, mistakes=0, layers=2, samples=6) for name in ("one", "two")]
    index = Index.read(jobs[0].index)
    labels = np.array(index.splits["test"].labels)
    for job, wrong in zip(jobs, (12, 0), strict=True):
        called = labels.copy()
        called[:wrong] = (labels[:wrong] + 1) % 10
        logits = np.eye(10, dtype=np.float32)[called]
        np.savez(job.evaluation / "test.npz", logits=logits, labels=labels, temperature=np.float64(1))
    spec = json.loads(jobs[1].spec.read_text())
    for path in (jobs[1].spec, jobs[1].plan):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"lr": 0.01}))
    assert spec["lr"] == 0.003
    return folder


def folders(workspace: Path) -> tuple[JobFolder, JobFolder]:
    place = Workspace(workspace)
    return place.job("one"), place.job("two")


def test_the_paired_test_counts_the_images_that_only_one_has_right(workspace: Path) -> None:
    found = compare.gather(*folders(workspace))
    assert [each.name for each in found.settings] == ["lr"]
    assert found.same_data is True
    (pair,) = found.paired
    assert (pair.images, pair.only_a, pair.only_b) == (60, 0, 12)
    assert pair.difference.value == pytest.approx(0.2)
    assert pair.p_value == pytest.approx(2 * 0.5**12 - 0.5**12)  # mid-p of 0 of 12
    assert comparison.answer(found)["headline"] == "two is better by 20.0 points"
    assert {each.ratio for each in found.layers["gradient_norm"]} == {1.0}
    assert {(each.name, each.mode) for each in found.curves} >= {("loss", "train"), ("accuracy", "valid")}


def test_two_equal_jobs_are_not_told_apart(workspace: Path) -> None:
    one, _ = folders(workspace)
    found = compare.gather(one, one)
    assert found.settings == ()
    assert comparison.answer(found)["headline"] == "Not told apart"


def test_the_page_of_two_jobs_stands_by_itself(workspace: Path) -> None:
    page = verb.report("one", "two", workspace=workspace)
    assert page.name == "compared-with-two.html"
    assert Comparison.read(page.with_suffix(".json")).b == "two"
    seen = Reader(page.read_text(encoding="utf-8"))
    assert "two is better by 20.0 points" in seen.words
    assert page.stat().st_size < 2_000_000


def test_what_fired_is_asked_by_severity(workspace: Path) -> None:
    assert {each.rule for each in verb.fired("one", "warning", workspace=workspace)} == {
        "duplicate_images",
        "vanishing_gradient",
        "data_wait",
    }
    assert verb.fired("one", "error", workspace=workspace) == []
    with pytest.raises(SpecError, match="severity 'bad'"):
        verb.fired("one", "bad", workspace=workspace)  # type: ignore[arg-type]


def test_a_ci_run_fails_on_what_fired(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["report", "one", "--workspace", str(workspace), "--json", "--check"]
    assert run([*asked, "error"]) == 0
    assert json.loads(capsys.readouterr().out)["fired"] == []
    assert run([*asked, "warning"]) == 1
    assert len(json.loads(capsys.readouterr().out)["fired"]) == 3
    assert run(["report", "one", "two", "--workspace", str(workspace), "--no-open"]) == 0
    assert capsys.readouterr().out.strip().endswith("compared-with-two.html")


def test_the_page_of_a_watched_loop_names_its_model(tmp_path: Path) -> None:
    spec = LoopSpec(program="train.py", models=("Net",), optimizers=("SGD",))
    job = Workspace(tmp_path / "runs").create(spec, "loop")
    with RecordWriter(job.records) as records:
        for step in range(8):
            records.scalar("loss", 1.0, step=step)
    assert summary.gather(job).overview.trained == "Net in a loop of its own with SGD: 8 steps."


def test_jobs_and_findings_show_themselves_in_a_notebook(workspace: Path) -> None:
    job = open_job("one", workspace=workspace)
    text = job._repr_html_()
    assert "COMPLETED" in text
    assert "1.4 times as fast without it" in text
    assert "vanishing gradient" in text
    hostile = Findings([Finding(source="script", rule="x", message="<script>alert(1)</script>")])
    assert "<script>" not in hostile._repr_html_()


def test_sagemakers_page_lies_in_its_place(workspace: Path) -> None:
    verb.report("one", workspace=workspace)
    page = folders(workspace)[0].sagemaker_page
    assert page.relative_to(folders(workspace)[0].path).as_posix() == (
        "rule-output/ProfilerReport/profiler-output/profiler-report.html"
    )
    seen = Reader(page.read_text(encoding="utf-8"))
    assert "StepOutlier was triggered most often." in seen.words
    assert (
        page.parent / str(next(a["href"] for t, a in seen.tags if t == "a" and "report" in str(a["href"])))
    ).is_file()


def test_maps_keep_weights_first_and_tell_broken_cells_apart(workspace: Path) -> None:
    maps = tensors.gather(folders(workspace)[0].records)
    assert maps is not None
    norms = maps.maps[0]
    assert norms.layers == tuple(f"backbone.block{n}.{kind}" for kind in ("weight", "bias") for n in (0, 1))
    assert len(norms.cells[0]) == len(maps.steps) == 40
    ratios = next(each for each in maps.maps if each.name == "update_ratio")
    assert 1e-4 < (ratios.last[0] or 0) < 2e-3
    codes = encode(np.array([[np.nan, 0.0, 1e-5, 1e-3, 0.1, 5.0]]), 1e-5, 1e-1, logarithmic=True)
    assert codes.tolist() == [[0, 1, 1, 127, 254, 254]]


def test_a_finding_about_a_layer_is_drawn_with_that_layers_series(workspace: Path) -> None:
    finding = Finding(
        source="debugger", rule="vanishing_gradient", message="m", evidence={"layers": ["backbone.block1.weight"]}
    )
    (line,) = lines_of([finding], (), folders(workspace)[0].records)
    assert line.label == "gradient norm of backbone.block1.weight"
    assert len(line.values) == 40
    assert lines_of([finding.model_copy(update={"evidence": {}})], (), folders(workspace)[0].records) == ()
