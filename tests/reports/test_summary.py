"""The page as data: compared with a golden file, and gathered from job folders that lack this or that."""

import json
import os
import shutil
from pathlib import Path

import pytest

from houndsight.errors import WorkspaceError
from houndsight.folders import JobFolder
from houndsight.reports import summary
from houndsight.reports.log import tail
from houndsight.reports.page import Page
from houndsight.spec import Finding, ScriptSpec
from houndsight.workspace import Workspace, write_json

from .factory import make_job

GOLDEN = Path(__file__).parent / "golden" / "report.json"


def test_the_twin_says_what_the_golden_file_says(workspace_folder: Path) -> None:
    """HOUNDSIGHT_WRITE_GOLDEN=1 writes the golden file again; the difference is then read like code."""
    job = make_job(
        workspace_folder, steps=40, per_class=4, mistakes=3, classes=("zero", "one", "two"), layers=2, samples=6
    )
    summary.build(job)
    if os.environ.get("HOUNDSIGHT_WRITE_GOLDEN"):
        shutil.copyfile(job.report_data, GOLDEN)
    assert json.loads(job.report_data.read_text()) == json.loads(GOLDEN.read_text())


def test_the_twin_can_be_read_back(finished: JobFolder) -> None:
    again = Page.read(finished.report_data)
    assert again.model_dump_json() == summary.gather(finished).model_dump_json()


def test_the_same_folder_gives_the_same_page(workspace_folder: Path) -> None:
    job = make_job(workspace_folder)
    summary.build(job)
    before = job.report.read_bytes(), job.report_data.read_bytes()
    summary.build(job)
    assert (job.report.read_bytes(), job.report_data.read_bytes()) == before


PIECES = ["status.json", "plan.json", "index.json", "check.json", "findings.json", "records", "evaluation", "model"]


@pytest.mark.parametrize("piece", [*PIECES, "spec.json"])
def test_a_missing_piece_leaves_the_rest_of_the_page(workspace_folder: Path, piece: str) -> None:
    job = make_job(workspace_folder, steps=30, per_class=4)
    path = job.path / piece
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    summary.build(job)
    page = Page.read(job.report_data)
    assert page.notes == ()
    present = [page.state, page.run, page.data, page.curves, page.time, page.results, page.findings]
    assert sum(bool(each) for each in present) >= 5
    assert b"</html>" in job.report.read_bytes()


def test_an_empty_folder_has_a_page(tmp_path: Path) -> None:
    job = JobFolder(tmp_path / "empty")
    job.path.mkdir()
    summary.build(job)
    assert Page.read(job.report_data).state is None


@pytest.mark.parametrize(
    "piece", ["spec.json", "status.json", "plan.json", "index.json", "check.json", "findings.json"]
)
@pytest.mark.parametrize(
    "rubbish", [b"", b"{", b"\xff\xfe\x00", b'{"kind": "classifier", "odd": 1}', b"[1, 2]", b"null"]
)
def test_what_cannot_be_read_is_named_on_the_page(workspace_folder: Path, piece: str, rubbish: bytes) -> None:
    job = make_job(workspace_folder, steps=5, per_class=4, mistakes=1)
    (job.path / piece).write_bytes(rubbish)
    page = summary.gather(job)
    harmless = rubbish.startswith(b'{"kind') and piece in {"check.json", "findings.json"}
    assert harmless or any(note.startswith(piece) for note in page.notes)


def test_evaluations_and_cards_that_cannot_be_read_are_named(workspace_folder: Path) -> None:
    job = make_job(workspace_folder, steps=5, per_class=4)
    (job.evaluation / "test.json").write_text("{}")
    (job.model / "model.json").write_text('{"classes": 3}')
    page = summary.gather(job)
    assert [note.split()[0] for note in page.notes] == ["test.json", "model.json"]
    assert [each.split for each in page.results] == ["valid"]


def test_records_of_a_newer_format_are_named(workspace_folder: Path) -> None:
    job = make_job(workspace_folder, steps=5, per_class=4)
    (job.records / "events.jsonl").write_text('{"format": 999, "host": "a", "pid": 1, "time": 1.0}\n')
    page = summary.gather(job)
    assert page.curves == ()
    assert "newer" in page.notes[0]


def test_a_running_job_says_how_far_it_is_and_how_to_follow_it(workspace_folder: Path) -> None:
    page = summary.gather(make_job(workspace_folder, "busy", state="RUNNING", findings=False, steps=50))
    assert page.overview.trained.endswith("so far.")
    assert page.overview.good.headline == "95.8\u202f%"
    assert page.overview.healthy.headline == "Not checked"
    assert page.overview.next[0].command == "houndsight logs busy -f"


def test_a_stopped_job_says_how_to_go_on(workspace_folder: Path) -> None:
    page = summary.gather(make_job(workspace_folder, "halted", state="STOPPED"))
    assert page.overview.next[0].command == "houndsight train --resume halted"


def test_a_failed_job_says_why_with_the_end_of_its_log(workspace_folder: Path) -> None:
    page = summary.gather(make_job(workspace_folder, state="FAILED"))
    assert page.failure is not None
    assert page.failure.kind == "NonFiniteLossError"
    assert page.failure.message.startswith("The loss became NaN")
    assert page.failure.log[page.failure.marked[0]] == page.failure.message
    assert page.overview.healthy.headline == "Failed"


def test_the_log_is_shown_as_a_terminal_would_show_it(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"\x1b[1mloud\x1b[0m\nstep 1\rstep 2\rstep 3\r\n\n\xff\n" + b"x" * 10)
    assert tail(log) == ("loud", "step 3", "\ufffd", "x" * 10)


def test_findings_come_worst_first_and_make_the_verdict(workspace_folder: Path) -> None:
    job = make_job(workspace_folder, steps=5, per_class=4)
    error = Finding(source="debugger", rule="dead_relu", severity="error", message="Half the units are dead.")
    write_json(job.findings, {"findings": [error.model_dump()]})
    page = summary.gather(job)
    assert [each.severity for each in page.findings] == ["error", "warning", "warning", "info"]
    assert (page.overview.healthy.tone, page.overview.healthy.headline) == ("bad", "1 error, 1 warning")


def test_the_command_to_repeat_it_names_every_changed_setting(finished: JobFolder) -> None:
    run = summary.gather(finished).run
    assert run is not None
    assert run.repeat == (
        "houndsight train /data/digits --backbone mobilenet_v2 --hidden 256 --lr 0.003 --epochs 10 --augment crop-flip"
    )
    origins = {each.name: each.origin for each in run.settings}
    assert [name for name, origin in origins.items() if origin == "decided"] == [
        "recipe",
        "weight_decay",
        "device",
        "threads",
    ]
    assert list(origins.values()) == sorted(origins.values(), key=["given", "decided", "default"].index)


def test_a_script_has_its_page_and_no_secret_on_it(workspace_folder: Path) -> None:
    job = make_job(workspace_folder, steps=5, per_class=4)
    spec = ScriptSpec(
        entry_point="hpo.py",
        source_dir="/code/my project",
        channels={"training": "/data"},
        hyperparameters={"lr": 0.01, "name": "a b"},
        environment={"API_TOKEN": "hush"},
    )
    write_json(job.spec, spec)
    for gone in (job.plan, job.index):
        gone.unlink()
    shutil.rmtree(job.evaluation)
    summary.build(job)
    page = Page.read(job.report_data)
    assert page.notes == ()
    assert page.run is not None
    assert page.run.repeat == (
        "houndsight run '/code/my project/hpo.py' --source-dir '/code/my project' --channel training=/data "
        "--hp lr=0.01 --hp 'name=a b' --env API_TOKEN=..."
    )
    assert page.overview.trained.startswith("hpo.py ran to its end")
    assert b"hush" not in job.report.read_bytes() + job.report_data.read_bytes()


def test_a_job_of_an_unknown_kind_shows_its_settings_as_they_are(workspace_folder: Path) -> None:
    job = make_job(workspace_folder, steps=5, per_class=4)
    write_json(job.spec, {"kind": "novel", "script": "hpo.py", "hyperparameters": {"lr": 0.01}})
    page = summary.gather(job)
    assert page.run is not None
    assert [(each.name, each.value) for each in page.run.settings] == [
        ("script", "hpo.py"),
        ("hyperparameters.lr", "0.01"),
    ]
    summary.build(job)


def test_the_confusion_matrix_is_complete(many: JobFolder) -> None:
    result = summary.gather(many).results[0]
    assert sum(cell.count for cell in result.cells) == result.images
    assert result.cells_left_out == 0
    assert result.confused[0].count >= result.confused[-1].count


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    """A file in the folder's place: not even root can write there."""
    (tmp_path / "job").write_text("no folder")
    with pytest.raises(WorkspaceError, match="Cannot write"):
        summary.build(JobFolder(tmp_path / "job"))
    assert [each.name for each in tmp_path.iterdir()] == ["job"]


def test_no_torch_is_imported(finished: JobFolder) -> None:
    """In a process of its own, where nobody else has imported it."""
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from houndsight.reports import summary;"
        "from houndsight.folders import JobFolder; summary.build(JobFolder(Path(sys.argv[1])));"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(finished.path)], check=True)


def test_the_workspace_keeps_the_chart_library(finished: JobFolder) -> None:
    kept = Workspace(finished.path.parent.parent).cache / "report"
    assert [each.suffix for each in kept.iterdir()] == [".js"]
