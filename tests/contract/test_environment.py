"""What a script finds: variables, arguments, folders; and what of the caller it does not find."""

import json
import os
from pathlib import Path

import pytest

from houndsight.contract import layout
from houndsight.contract.arguments import arguments, as_read, as_sent, split, variable
from houndsight.contract.environment import torch_version
from houndsight.contract.source import copy_source
from houndsight.folders import JobFolder, drop_in
from houndsight.records.reader import Records
from houndsight.verbs.run import script_spec
from houndsight.workspace import Workspace

from .conftest import RunIt, again

SEE = """
import json, os, sys
seen = {"argv": sys.argv, "environ": dict(os.environ), "cwd": os.getcwd(), "path": sys.path}
json.dump(seen, open(os.environ["SM_MODEL_DIR"] + "/seen.json", "w"))
import tempfile
tempfile.NamedTemporaryFile(delete=False).write(b"left behind")
"""


def test_arguments() -> None:
    given = {"lr": 0.01, "batch-size": 64, "k": "v", "on": True, "off": False, "no": None, "d": {"b": 1, "a": [1, 2]}}
    assert arguments(given) == [
        *("--batch-size", "64", "-d", "a=[1, 2],b=1", "-k", "v", "--lr", "0.01"),
        *("--no", "", "--off", "False", "--on", "True"),
    ]
    assert as_read(as_sent(given)) == given
    assert as_read({"sagemaker_program": "train.py", "n": '"1"'}) == {"sagemaker_program": "train.py", "n": "1"}


def test_framework_parameters_stay_out() -> None:
    script, framework = split({"lr": 1, "sagemaker_program": "x", "_tuning_objective_metric": "y", "sagemaker_z": 2})
    assert (script, framework) == ({"lr": 1}, {"sagemaker_z": 2})


def test_variables() -> None:
    assert variable({"b": None, "a": [1, "é"]}) == '{"a":[1,"\\u00e9"],"b":null}'
    assert (variable("é"), variable(None), variable(True), variable(3)) == ("é", "", "true", "3")


def test_what_a_script_finds(run_it: RunIt, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SM_MODEL_DIR", "SM_CHANNEL_TRAINING", "SM_HP_OLD", "SAGEMAKER_JOB_NAME", "TRAINING_JOB_NAME"):
        monkeypatch.setenv(name, "s3://somebody-elses/nonsense")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("PYTHONPATH", "some/where")
    ran = run_it(
        code=SEE,
        channels={"training": digits},
        hyperparameters={"batch-size": 64, "sagemaker_job_name": "other", "_tuning_objective_metric": "loss"},
        environment={"MY_SETTING": "1"},
        name="seen",
    )
    assert ran.state == "COMPLETED", ran.log
    seen = json.loads((ran.job.model / "seen.json").read_text())
    assert seen["argv"] == ["script.py", "--batch-size", "64"]
    assert seen["cwd"] == str(ran.job.code)
    assert seen["path"][0] == str(ran.job.code)
    found = seen["environ"]
    assert found["SM_MODEL_DIR"] == str(ran.job.model)
    assert found["SM_CHANNEL_TRAINING"] == str(ran.job.input / "data" / "training")
    assert found["SM_HP_BATCH-SIZE"] == "64"
    assert found["SM_HPS"] == '{"batch-size":64}'
    assert found["TRAINING_JOB_NAME"] == "seen"
    assert found["SM_CURRENT_HOST"] == "algo-1"
    assert found["SM_DLC_TORCH_VERSION"] == torch_version()
    assert (found["OMP_NUM_THREADS"], found["MY_SETTING"]) == ("3", "1")
    assert found["PYTHONPATH"] == f"{drop_in()}:{ran.job.code}:{Path('some/where').absolute()}"
    assert not {"SM_HP_OLD", "SECRET_TOKEN", "PYTEST_CURRENT_TEST"} & set(found)
    assert not [value for value in found.values() if "somebody-elses" in value]
    assert not layout.scratch_folder(ran.job).exists()
    assert json.loads((ran.job.input / "config" / "hyperparameters.json").read_text())["sagemaker_job_name"] == '"seen"'


def test_version_of_torch_without_torch() -> None:
    text = torch_version()
    assert text is not None
    assert text.startswith("2.")


def test_temporary_files_of_a_deep_job_have_a_short_path(tmp_path: Path) -> None:
    job = JobFolder(tmp_path / ("d" * 80) / "jobs" / "x")
    folder = layout.scratch_folder(job)
    assert len(os.fsencode(folder)) <= 70
    assert folder == layout.scratch_folder(job)
    job.path.mkdir(parents=True)
    assert layout.make_scratch(job).stat().st_mode & 0o777 == 0o700
    (folder / "left by a killed run").touch()
    assert not list(layout.make_scratch(job).iterdir())
    folder.rmdir()


def test_the_source_folder(run_it: RunIt, tmp_path: Path, digits: Path, workspace: Workspace) -> None:
    source = tmp_path / "source"
    for name in (".git/config", "__pycache__/x.pyc", "data/loader.py", "venv/pyvenv.cfg", "venv/lib/x.py", "note.txt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("")
    (source / "images").symlink_to(digits)
    (source / "linked.txt").symlink_to(source / "note.txt")
    (source / "dangling").symlink_to(source / "nowhere")
    os.mkfifo(source / "pipe")
    (source / "big").mkdir()
    (source / "big" / "image.png").write_bytes(b"x")
    ran = run_it(code="import os; print(open('note.txt').read(), os.listdir('images'))", source_dir=source,
                 channels={"training": source / "big"})  # fmt: skip
    assert ran.state == "COMPLETED", ran.log
    copied = {path.relative_to(ran.job.code).as_posix() for path in ran.job.code.rglob("*")}
    assert copied == {"data", "data/loader.py", "images", "linked.txt", "note.txt", "script.py"}
    assert (ran.job.code / "images").resolve() == digits
    assert not (ran.job.code / "linked.txt").is_symlink()


def test_a_workspace_inside_the_source_folder(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    spec = script_spec("train.py", source_dir=tmp_path)
    for place in (tmp_path, tmp_path / "runs"):
        workspace = Workspace(place)
        first = workspace.create(spec)
        second = workspace.create(spec)
        copy_source(spec, first)
        copy_source(spec, second)
        assert [path.name for path in second.code.iterdir()] == ["train.py"]


def test_a_second_start_keeps_code_and_checkpoints(run_it: RunIt, workspace: Workspace) -> None:
    code = """
import os
place = os.path.join(os.environ["SM_MODEL_DIR"], "..", "checkpoints", "step")
print("resumes" if os.path.exists(place) else "begins")
open(place, "w").close()
print("loss: 1\\nloss: 2")
open(os.path.join(os.environ["SM_MODEL_DIR"], str(len(os.listdir(os.environ["SM_MODEL_DIR"])))), "w").close()
"""
    ran = run_it(code=code, metrics={"loss": "loss: (.)"})
    (ran.job.failure).write_text("of the first start")
    ran = again(ran.job)
    assert ran.state == "COMPLETED"
    assert "begins" in ran.log
    assert "resumes" in ran.log
    assert [path.name for path in ran.job.model.iterdir()] == ["0"]
    found = Records(ran.job.records).scalars("loss", "script")
    assert [(each.step, each.value) for each in found] == [(0, 1), (1, 2), (2, 1), (3, 2)]
    assert not ran.job.failure.exists()


def test_requirements_are_named_not_installed(run_it: RunIt, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "requirements.txt").write_text(
        "numpy>=1\nno-such-package-at-all==1.0\n# note\n-r other.txt\n"
    )
    ran = run_it(code="print('ran')", source_dir=tmp_path / "source")
    assert ran.outcome.not_installed == ("no-such-package-at-all",)
    assert "no-such-package-at-all" in caplog.text


def test_a_package_and_a_shell_script(run_it: RunIt, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "setup.py").write_text("")
    ran = run_it(code="print('as', __spec__.name)", source_dir=source)
    assert "as script" in ran.log
    ran = run_it("train.sh", code='echo "$0 $* in $(pwd) $SM_HP_LR"; exit 3', hyperparameters={"lr": "a b; exit 0"})
    assert ran.state == "FAILED"
    assert f"./train.sh --lr a b; exit 0 in {ran.job.code} a b; exit 0" in ran.log
    assert ran.outcome.exit_code == 3
    ran = run_it("tool", code="#!/usr/bin/env python3\nimport sys; print(sys.argv[1:])", hyperparameters={"lr": 1})
    assert "['--lr', '1']" in ran.log
