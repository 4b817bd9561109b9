"""Script jobs as people start them: in a process of their own, followed, failed, stopped."""

import json
from io import StringIO
from pathlib import Path

import pytest

from houndsight.backends.base import settle
from houndsight.cli import app
from houndsight.cli.follow import Bar, show
from houndsight.errors import JobError
from houndsight.spec import Status
from houndsight.verbs.run import run
from houndsight.workspace import Workspace

from .conftest import SCRIPTS
from .test_scripts import of_job


def test_from_the_command_line(workspace: Workspace, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metric = "average test loss=Average loss: ([0-9.]+)"
    asked = [
        "run",
        str(SCRIPTS / "dashes.py"),
        "--channel",
        str(digits),
        "--hp",
        "lr=0.4",
        "--metric",
        metric,
        "--json",
    ]
    assert app.run(asked) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["state"] == "COMPLETED"
    assert document["model"].endswith("output/model.tar.gz")
    assert document["script"]["metrics"]["average test loss"]["last"] == 0.1333
    job = workspace.job(document["job"])
    assert "Accuracy: 3/4 (75%)" in job.log.read_text()
    assert not of_job(job.path)


def test_a_failed_one(workspace: Workspace, digits: Path) -> None:
    with pytest.raises(JobError, match="no images to train on") as caught:
        run(SCRIPTS / "failing.py", channels=digits, name="bad")
    assert caught.value.message.startswith("AlgorithmError: ExecuteUserScriptError:\nExitCode 1\n")
    assert workspace.job("bad").model_archive.is_file()


def test_wrong_flags(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, part in (
        (["--hp", "lr"], "no NAME=VALUE"),
        (["--hp", "a=1", "--hp", "a=2"], "given twice"),
        (["--channel", "nowhere"], "there is no folder"),
        (["--metric", "a=("], "no regular expression"),
    ):
        assert app.run(["run", str(SCRIPTS / "flags.py"), *flags, "--json"]) == 2
        assert part in json.loads(capsys.readouterr().out)["error"]["message"]
    assert not workspace.path.exists()


def test_a_failure_of_its_own_stays(workspace: Workspace, tmp_path: Path) -> None:
    script = tmp_path / "own.py"
    script.write_text("open('../output/failure', 'w').write('the robot fell over'); raise SystemExit(3)")
    with pytest.raises(JobError, match="the robot fell over"):
        run(script, name="own", backend="inline")
    assert workspace.job("own").failure.read_text() == "the robot fell over"


def test_an_earlier_failure_does_not_stay(workspace: Workspace, tmp_path: Path) -> None:
    script = tmp_path / "own.py"
    script.write_text("")
    job = run(script, name="again", backend="inline").files
    job.failure.write_text("of the run before")
    settle(job, Status(state="FAILED", reason="it never began"))
    assert job.failure.read_text() == "it never began"


def test_the_reason_of_a_stop_is_the_real_one(workspace: Workspace, tmp_path: Path) -> None:
    script = tmp_path / "long.py"
    script.write_text("import time; time.sleep(60)")
    job = run(script, name="long", max_seconds=0.5, backend="inline")
    assert (job.state, job.status.reason) == ("STOPPED", "stopped at its time limit of 0.5 s (--max-minutes)")
    page = json.loads(job.files.report_data.read_text())
    assert page["overview"]["healthy"]["detail"].startswith("Stopped at its time limit of 0.5 s")


class Terminal(StringIO):
    """A terminal that keeps what is written on it."""

    def isatty(self) -> bool:
        return True


def test_no_bar_stands_below_the_words_of_a_script(workspace: Workspace, tmp_path: Path) -> None:
    script = tmp_path / "talks.py"
    script.write_text("print('Epoch 1')")
    job = run(script, name="talks")
    terminal = Terminal()
    show(job, terminal)
    assert "Epoch 1" in terminal.getvalue()
    assert "starting" not in terminal.getvalue()
    with Bar(terminal) as bar:
        bar.line("of a training")
    assert "starting" in terminal.getvalue()


@pytest.mark.slow
def test_stopped_while_it_ignores_it(workspace: Workspace) -> None:
    job = run(SCRIPTS / "stubborn.py", name="stubborn", wait=False)
    for line in job.follow():
        if line == "forked":
            break
    job.stop(grace=8.0)
    assert job.state == "STOPPED"
    assert job.model is not None
    assert not of_job(job.folder)
