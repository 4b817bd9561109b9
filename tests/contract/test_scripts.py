"""Scripts in the styles of the public projects, each as it is, as a job."""

import json
import tarfile
import time
from pathlib import Path

import psutil
import pytest

from houndsight.workspace import Workspace

from .conftest import SCRIPTS, RunIt


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_dashes(run_it: RunIt, digits: Path) -> None:
    ran = run_it(
        "dashes.py",
        channels={"training": str(digits)},
        hyperparameters={"lr": 0.4, "batch-size": 8},
        metrics={"average test loss": r"Test set: Average loss: ([0-9\.]+)", "percent": r"\((\d+)%\)"},
    )
    assert ran.state == "COMPLETED"
    assert ran.values("average test loss") == [0.4, 0.2, 0.1333]
    assert ran.values("percent") == [25, 50, 75]
    model = json.loads((ran.job.model / "model.pth").read_text())
    assert model == {"classes": [str(digit) for digit in range(10)], "batch": 8}
    assert names(ran.job.model_archive) == ["model.pth"]
    assert not ran.job.output_archive.exists()
    loss = ran.outcome.metrics["average test loss"]
    assert (loss.last, loss.lowest, loss.highest, loss.count) == (0.1333, 0.1333, 0.4, 3)


def test_underscores(run_it: RunIt) -> None:
    ran = run_it(
        "underscores.py",
        hyperparameters={"batch_size": 16, "learning_rate": 1e-05, "e": 3},
        metrics={"loss": r"Testing Loss: ([0-9\.]+)"},
    )
    assert "--batch_size 16 -e 3 --learning_rate 1e-05" in ran.log
    assert ran.values("loss") == [0.25]
    assert ran.outcome.metrics["loss"].skipped == 2
    assert names(ran.job.output_archive) == ["history.csv"]
    assert (ran.job.output / "data" / "history.csv").read_text() == "epoch,loss\n3,1e-05\n"


def test_lists(run_it: RunIt) -> None:
    ran = run_it(
        "lists.py",
        hyperparameters={
            "layers": [64, 32],
            "letters": "[1, 2]",
            "options": {"b": "two", "a": 1},
            "nothing": None,
            "title": "two words; $HOME `ls` 'quoted'",
        },
    )
    assert ran.state == "COMPLETED", ran.log


def test_flags(run_it: RunIt) -> None:
    ran = run_it("flags.py", hyperparameters={"pretrained": True, "freeze": False})
    assert ran.state == "COMPLETED", ran.log


def test_one_channel(run_it: RunIt, digits: Path) -> None:
    ran = run_it("tree.py", channels={"training": digits}, metrics={"loss": "Test Loss: ([0-9.]+)"})
    assert "train: 200 images of 10 classes\n" in ran.log
    assert ran.values("loss") == [0.5]
    assert (ran.job.input / "data" / "training").is_symlink()


def test_a_channel_a_split(run_it: RunIt, digits: Path) -> None:
    channels = {"train": digits / "train", "test": digits / "test", "validation": digits / "valid"}
    ran = run_it("splits.py", channels=channels, metrics={"loss": r"Loss: ([0-9\.]+)", "whole": r"Loss: (\S+)"})
    assert ran.state == "COMPLETED", ran.log
    assert ran.values("whole") == [1e-05]
    assert ran.values("loss") == [1]  # what this expression says of 1e-05, on SageMaker too


def test_hosts(run_it: RunIt) -> None:
    ran = run_it("hosts.py")
    assert "rank 0 of 1" in ran.log


def test_known_args_and_a_helper(run_it: RunIt) -> None:
    ran = run_it("known_args.py", source_dir=SCRIPTS, hyperparameters={"epochs": 2, "other-thing": "x"})
    assert "2 epochs, --other-thing x" in ran.log
    alone = run_it("known_args.py")
    assert alone.state == "FAILED"
    assert alone.error is not None
    assert "No module named 'helpers'" in alone.error.message
    assert "--source-dir" in alone.error.repair


def test_both_streams_in_order(run_it: RunIt) -> None:
    ran = run_it("to_stderr.py", metrics={"loss": "Average loss: ([0-9.]+)", "out": r"^out (\d+)$"})
    numbers = [int(line.split()[1]) for line in ran.log.splitlines() if line.startswith(("out ", "err "))]
    assert numbers == list(range(400))
    assert ran.values("loss") == [0.125]
    assert len(ran.values("out")) == 200


def test_progress_bars_do_not_swell_the_log(run_it: RunIt) -> None:
    ran = run_it("progress.py", metrics={"loss": r"loss=([0-9.]+)", "step": r"^step (\d+)"})
    assert len(ran.log) < 4000
    assert "100%" in ran.log
    assert "Epoch done\n" in ran.log
    assert len(ran.values("loss")) >= 300
    assert ran.values("step") == list(range(1000))


def test_failing(run_it: RunIt, digits: Path) -> None:
    ran = run_it("failing.py", channels={"training": digits})
    assert ran.state == "FAILED"
    text = ran.job.failure.read_text()
    assert ran.error is not None
    assert ran.error.message == text
    assert text.startswith('AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "')
    assert "FileNotFoundError: [Errno 2]" in text
    assert "RuntimeError: no images to train on: ä" in text
    assert text.endswith('-- failing.py"')
    place = ran.outcome.failed_at
    assert place is not None
    assert place.file == "failing.py"
    assert "raise RuntimeError" in place.excerpt[place.line - place.first_line]
    assert names(ran.job.model_archive) == ["model.pth"]
    assert names(ran.job.output_archive) == ["notes.txt"]


def test_stubborn(run_it: RunIt, workspace: Workspace) -> None:
    log = workspace.jobs / "stubborn" / "log.txt"
    asked: list[float] = []

    def stop() -> bool:
        if not asked and log.is_file() and "forked" in log.read_text():
            asked.append(time.monotonic())
        return bool(asked)

    ran = run_it("stubborn.py", stop=stop, grace=0.5, name="stubborn")
    took = time.monotonic() - asked[0]
    assert ran.state == "STOPPED"
    assert 0.5 <= took < 8
    assert ran.outcome.exit_code == -9
    assert ran.outcome.killed >= 1  # the worker in a session of its own; the group's signal took the others
    assert names(ran.job.model_archive) == ["model.pth"]
    assert not ran.job.failure.exists()
    assert not of_job(ran.job.path)


def of_job(folder: Path) -> list[psutil.Process]:
    """Every living process of the job."""
    found = []
    for each in psutil.process_iter():
        try:
            if each.environ().get("SAGEMAKER_BASE_DIR") == str(folder):
                found.append(each)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.mark.slow
def test_whole_module(run_it: RunIt, digits: Path) -> None:
    ran = run_it(
        "whole_module.py",
        channels={"training": digits},
        hyperparameters={"lr": 0.02, "epochs": 5},
        metrics={"loss": "Average loss: ([0-9.]+)", "accuracy": "Accuracy: ([0-9.]+)"},
    )
    assert ran.state == "COMPLETED", ran.log
    assert ran.values("accuracy")[-1] > 0.7
    assert len(ran.values("loss")) == 5
    assert names(ran.job.model_archive) == ["model.pth"]


@pytest.mark.slow
def test_traced_with_worker_processes(run_it: RunIt) -> None:
    ran = run_it("traced.py")
    assert "seen 64 torch True" in ran.log
    assert names(ran.job.model_archive) == ["model.pt"]
    assert ran.outcome.killed == 0
