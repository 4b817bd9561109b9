"""Script jobs as people start them: in a process of their own, followed, failed, stopped."""

import json
from pathlib import Path

import pytest

from houndsight.cli import app
from houndsight.errors import JobError
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
