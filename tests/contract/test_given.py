"""What a script is given beyond its folders: packages, packed code, shells, data and code from elsewhere, documents."""

import functools
import io
import json
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from houndsight.errors import DataError, SpecError
from houndsight.verbs.run import script_spec
from houndsight.workspace import Workspace
from tests.handlers.test_deploy import wheel
from tests.s3_servers import KEY, SECRET, running

from .conftest import Ran, RunIt, again


def run_of(workspace: Workspace, script: str, **settings: object) -> Ran:
    """Run what a spec describes, whatever its code comes from."""
    return again(workspace.create(script_spec(script, **settings)))  # type: ignore[arg-type]


def packed(path: Path, files: dict[str, str]) -> Path:
    """A .tar.gz of these files."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


# ------------------------------------------------------------------------------------------- packages


@pytest.mark.slow
def test_requirements_are_installed_where_that_is_allowed(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    wheel(source, "tiny_package_of_a_test", "1.5")
    (source / "requirements.txt").write_text(
        "--no-index\n--find-links .\n./tiny_package_of_a_test-1.5-py3-none-any.whl\n"
    )
    told = "import sys, numpy, subprocess, tiny_package_of_a_test as t; print(t.VERSION, sys.executable)\n"
    called = "print(subprocess.check_output(['python', '-c', 'import sys; print(sys.executable)'], text=True))\n"
    (source / "train.py").write_text(told + called)
    ran = run_of(workspace, "train.py", source_dir=source)
    assert ran.state == "FAILED"
    assert ran.outcome.not_installed == ("tiny_package_of_a_test",)
    assert ran.error is not None
    assert "--allow-requirements" in ran.error.repair
    for _ in range(2):
        ran = run_of(workspace, "train.py", source_dir=source, allow_requirements=True)
        assert ran.state == "COMPLETED", ran.log
        assert not ran.outcome.not_installed
        python = str(workspace.cache / "packages")
        assert [line.startswith(("1.5 " + python, python)) for line in ran.log.strip().splitlines()[-2:]] == [True] * 2
    assert len(list((workspace.cache / "packages").iterdir())) == 1


@pytest.mark.slow
def test_a_package_is_installed_where_that_is_allowed(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "lib").mkdir(parents=True)
    (source / "lib" / "kennel_of_a_test.py").write_text("NAME = 'kennel'\n")
    (source / "setup.py").write_text(
        "from setuptools import setup\n"
        "setup(name='kennel-of-a-test', version='2', package_dir={'': 'lib'}, py_modules=['kennel_of_a_test'])\n"
    )
    (source / "train.py").write_text("import kennel_of_a_test as k, sys; print(k.NAME, sys.argv[1:])\n")
    given = {"source_dir": source, "hyperparameters": {"lr": 0.1}}
    assert run_of(workspace, "train.py", **given).state == "FAILED"
    ran = run_of(workspace, "train.py", allow_requirements=True, **given)
    assert ran.state == "COMPLETED", ran.log
    assert ran.outcome.command[1:3] == ("-m", "train")
    assert ran.log.endswith("kennel ['--lr', '0.1']\n")
    assert sorted(each.name for each in ran.job.code.iterdir()) == ["lib", "setup.py", "train.py"]


# ----------------------------------------------------------------------------------------- code and data


def test_packed_code(workspace: Workspace, tmp_path: Path) -> None:
    code = {"train.py": "import helper.one; print(helper.one.WORD)", "helper/one.py": "WORD = 'packed'"}
    source = packed(tmp_path / "sourcedir.tar.gz", code)
    ran = run_of(workspace, "train.py", source_dir=source)
    assert ran.state == "COMPLETED", ran.log
    assert ran.log.endswith("packed\n")
    assert len(list((workspace.cache / "sources").glob("[!.]*"))) == 1
    with pytest.raises(SpecError, match=r"no file .*Did you mean 'train.py'"):
        script_spec("trian.py", source_dir=source)
    hostile = packed(tmp_path / "hostile.tar.gz", {"../../out.py": "x"})
    with pytest.raises(SpecError, match="which would leave its folder"):
        script_spec("train.py", source_dir=hostile)
    (tmp_path / "torn.tar.gz").write_bytes(source.read_bytes()[:100])
    with pytest.raises(SpecError, match="not a whole"):
        script_spec("train.py", source_dir=tmp_path / "torn.tar.gz")
    assert len(list((workspace.cache / "sources").glob("[!.]*"))) == 1


def test_a_shell_script_with_arguments(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.sh").write_text('echo "$@"\nexec python train.py "$@"\n')
    (source / "train.py").write_text("import sys; print(sys.argv[1:], sys.executable)\n")
    ran = run_of(workspace, "train.sh", source_dir=source, hyperparameters={"lr": 0.1, "name": "two words"})
    assert ran.state == "COMPLETED", ran.log
    assert ran.log.endswith(f"['--lr', '0.1', '--name', 'two words'] {sys.executable}\n"), ran.log


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a folder with images.zip in it."""
    folder = tmp_path / "web"
    folder.mkdir()
    with zipfile.ZipFile(folder / "images.zip", "w") as file:
        for split in ("train", "test"):
            file.writestr(f"images/{split}/dog/1.txt", split)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/images.zip"
        server.shutdown()
        thread.join(5)


def test_zipped_channels(run_it: RunIt, web: str, tmp_path: Path) -> None:
    code = "import os; print(*[sorted(os.listdir(os.environ['SM_CHANNEL_' + n])) for n in ('A', 'B')])"
    ran = run_it(code=code, channels={"a": web, "b": tmp_path / "web" / "images.zip"})
    assert ran.state == "COMPLETED", ran.log
    assert ran.log.endswith("['test', 'train'] ['test', 'train']\n")
    with pytest.raises(DataError, match="no source of data"):
        run_it(code=code, channels={"a": "ftp://127.0.0.1/images.zip"})


READS = """
import os, boto3
print(sorted(os.listdir(os.environ["SM_CHANNEL_TRAINING"])), sorted(os.listdir(os.environ["SM_CHANNEL_ZIPPED"])))
client = boto3.client("s3")
print(client.get_object(Bucket="kennel", Key="dogs/train/1.txt")["Body"].read())
client.put_object(Bucket="kennel", Key="left/model.pth", Body=b"weights")
print(os.environ["FSSPEC_S3_ENDPOINT_URL"])
"""


@pytest.mark.peer
@pytest.mark.parametrize("name", ["moto", "rclone"])
def test_data_and_code_on_s3(name: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    with running(name, tmp_path / "buckets") as server:
        client = boto3.client("s3", endpoint_url=server)
        client.create_bucket(Bucket="kennel")
        source = packed(tmp_path / "sourcedir.tar.gz", {"train.py": READS})
        for key, value in (
            ("dogs/train/1.txt", b"a"), ("dogs/test/1.txt", b"b"), ("dogs-hpo/source.txt", b"never"),
            ("images.zip", b"PK as it is"), ("code/sourcedir.tar.gz", source.read_bytes()),
        ):  # fmt: skip
            client.put_object(Bucket="kennel", Key=key, Body=value)
        channels = {"training": "s3://kennel/dogs", "zipped": "s3://kennel/images.zip"}
        ran = run_of(
            workspace, "train.py", source_dir="s3://kennel/code/sourcedir.tar.gz", channels=channels, s3_endpoint=server
        )
        assert ran.state == "COMPLETED", ran.log
        assert ran.log.endswith(f"['test', 'train'] ['images.zip']\nb'a'\n{server}\n")
        assert client.get_object(Bucket="kennel", Key="left/model.pth")["Body"].read() == b"weights"


# ------------------------------------------------------------------------------------------- documents


def test_documents_that_are_there_when_given(run_it: RunIt) -> None:
    ran = run_it(code="")
    assert {each.stem for each in (ran.job.input / "config").glob("*config.json")} == {
        "inputdataconfig",
        "resourceconfig",
    }
    hook = {"S3OutputPath": "s3://bucket/out", "HookParameters": {"train.save_interval": "100"}}
    ran = run_it(
        code="", hook_config=hook, profile_interval=1.0, checkpoint_config={"S3Uri": "s3://bucket/checkpoints"}
    )
    config = ran.job.input / "config"
    assert json.loads((config / "debughookconfig.json").read_bytes()) == hook
    assert json.loads((config / "profilerconfig.json").read_bytes()) == {"ProfilingIntervalInMilliseconds": 1000}
    assert json.loads((config / "checkpointconfig.json").read_bytes()) == {
        "LocalPath": "/opt/ml/checkpoints",
        "S3Uri": "s3://bucket/checkpoints",
    }
