"""The page of a script job: compared with a golden file, on its first screen why it failed, nowhere a secret."""

import json
import os
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from houndsight.folders import JobFolder
from houndsight.reports import commands, log, summary
from houndsight.reports.page import Page
from houndsight.spec import ScriptSpec

from .scripts import ACCURACY, ERROR, LOSS, make_script_job
from .test_browser import look
from .test_html import HOSTILE, read

GOLDEN = Path(__file__).parent / "golden" / "script.json"


def first_screen(job: JobFolder) -> str:
    text = job.report.read_text(encoding="utf-8")
    return text[text.index('id="overview"') : text.index("</section>")]


def test_the_twin_says_what_the_golden_file_says(workspace_folder: Path) -> None:
    """HOUNDSIGHT_WRITE_GOLDEN=1 writes the golden file again; the difference is then read like code."""
    job = make_script_job(workspace_folder)
    job.log.write_text(job.log.read_text().replace(str(job.path), "/job"))
    summary.build(job)
    if os.environ.get("HOUNDSIGHT_WRITE_GOLDEN"):
        shutil.copyfile(job.report_data, GOLDEN)
    assert json.loads(job.report_data.read_text()) == json.loads(GOLDEN.read_text())


def test_a_failed_script_shows_its_line_on_the_first_screen(workspace_folder: Path) -> None:
    job = make_script_job(workspace_folder)
    summary.build(job)
    page = Page.read(job.report_data)
    assert page.failure is not None
    assert page.failure.message == ERROR
    assert page.failure.said.startswith("AlgorithmError")
    assert [page.failure.log[each].split()[0] for each in page.failure.marked] == ["File", "ValueError:"]
    shown = first_screen(job)
    assert ERROR in shown
    assert 'class="row here"><b>3</b>        loss = criterion(net(images), labels)</span>' in shown
    assert shown.index("criterion") < shown.index('class="answers"')
    assert page.overview.trained == "hpo.py failed after 1\u202fmin 02\u202fs, with exit code 1."


def test_what_a_script_measured(workspace_folder: Path) -> None:
    job = make_script_job(workspace_folder, state="COMPLETED")
    summary.build(job)
    page = Page.read(job.report_data)
    assert page.script is not None
    loss, accuracy, gpu = page.script.metrics
    assert (loss.name, loss.count, loss.best_step, loss.best == loss.last == loss.lowest) == (LOSS, 8, 7, True)
    assert (accuracy.name, accuracy.last, accuracy.lowest, accuracy.best_step) == (ACCURACY, 81.0, 61.0, 2)
    assert (gpu.count, gpu.last, gpu.skipped) == (0, None, 8)
    assert page.overview.good.headline == "0.4036"
    assert page.overview.healthy.headline == "1 remark"
    assert page.overview.speed.detail == "On average 1.8 of 2 processors at work."
    ids = [attributes.get("data-chart") for _, attributes in read(job).tags if "data-chart" in attributes]
    assert ids == ["metric-0", "metric-1"]
    assert all(each in read(job).words for each in ("model.pth", "4.32\u202fkB", "code/", "inference.py"))


def test_no_value_of_the_environment_is_shown(workspace_folder: Path) -> None:
    job = make_script_job(workspace_folder)
    summary.build(job)
    assert b"hush" not in job.report.read_bytes() + job.report_data.read_bytes()
    assert "API_TOKEN" in read(job).words


def test_the_command_asks_for_the_same_again(workspace_folder: Path) -> None:
    spec = ScriptSpec.read(make_script_job(workspace_folder).spec)
    typed = shlex.split(commands.repeat(spec))
    assert typed[:3] == ["houndsight", "run", "/code/my project/hpo.py"]
    assert [value for flag, value in pairwise(typed) if flag == "--hp"] == [
        "lr=0.01",
        "layers=[64, 32]",
        "name=a b",
        'version="5"',
    ]
    assert typed[-2:] == ["--max-minutes", "60"]


@pytest.mark.parametrize(
    ("state", "trained", "ended"),
    [
        ("RUNNING", "hpo.py is running.", "Not yet known"),
        (
            "STOPPED",
            "hpo.py was stopped at its time limit of 60 min (--max-minutes), after 1\u202fmin 02\u202fs.",
            "Stopped",
        ),
        ("COMPLETED", "hpo.py ran to its end in 1\u202fmin 02\u202fs.", "1 remark"),
    ],
)
def test_every_state_has_its_words(workspace_folder: Path, state: str, trained: str, ended: str) -> None:
    page = summary.gather(make_script_job(workspace_folder, state=state))  # type: ignore[arg-type]
    assert (page.overview.trained, page.overview.healthy.headline) == (trained, ended)
    assert page.failure is None


def test_a_script_that_died_without_a_word(workspace_folder: Path) -> None:
    job = make_script_job(workspace_folder)
    job.script.unlink()
    summary.build(job)
    page = Page.read(job.report_data)
    assert page.overview.trained == "hpo.py failed."
    assert page.script is not None
    assert page.script.archives[0].holds is None
    assert "criterion" in first_screen(job)  # the end of the log


@pytest.mark.parametrize("rubbish", [b"", b"{}", b"null", b"\xff"])
def test_an_outcome_that_cannot_be_read_is_named(workspace_folder: Path, rubbish: bytes) -> None:
    job = make_script_job(workspace_folder)
    job.script.write_bytes(rubbish)
    assert [note.split()[0] for note in summary.gather(job).notes] == ["script.json"]


def test_hostile_words_of_a_script_are_text(workspace_folder: Path) -> None:
    harmless = make_script_job(workspace_folder, "harmless")
    job = make_script_job(workspace_folder, "hostile", error=HOSTILE[0], command=HOSTILE)
    job.log.write_text("\n".join(HOSTILE))
    for each in (harmless, job):
        summary.build(each)
    page = read(job)
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in read(harmless).tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert HOSTILE[0] in page.words


def test_the_log_around_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    before = [f"step {n}" for n in range(100)]
    trace = ["Traceback (most recent call last):", '  File "a.py", line 7, in f', "    f()", "OSError: no"]
    path.write_text("\n".join([*before, *trace, *(f"after {n}" for n in range(100))]))
    lines, marked = log.around(path, "OSError: no", 'a.py", line 7')
    assert (lines[0], lines[-1], len(lines)) == ("step 88", "after 7", 24)
    assert [lines[each].strip() for each in marked] == ['File "a.py", line 7, in f', "OSError: no"]
    assert log.around(path, "never said")[0] == tuple(f"after {n}" for n in range(60, 100))
    deep = [trace[0], *trace[1:2] * 3000, "x" * 5000 + " end"]
    path.write_text("\n".join(deep))
    lines, marked = log.around(path, "x" * 100 + " ... " + "end")
    assert len(lines) == log.LINES + 1
    assert marked == (log.LINES,)
    assert len(lines[-1]) <= log.LONGEST + 2
    assert log.around(tmp_path / "none.txt", "a") == ((), ())


@pytest.mark.browser
def test_the_page_draws_its_charts_in_silence(workspace_folder: Path, tmp_path: Path) -> None:
    job = make_script_job(workspace_folder)
    summary.build(job)
    seen = look(job.report, tmp_path, width=390, dark=True)
    assert (seen.console, seen.requested) == ([], set())
    assert seen.dom.count('class="marks"') == 2
