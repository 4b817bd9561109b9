"""From what was named to a folder that an endpoint takes: whose script it is, who vouches for it, what is refused."""

import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import houndsight
from houndsight.backends import private
from houndsight.errors import DependencyError, HoundsightError, ModelError, SpecError
from houndsight.serving import modeldir
from houndsight.serving.modeldir import HandlerModel
from houndsight.spec import ScriptSpec
from houndsight.verbs.handlers import Script, staged
from houndsight.verbs.models import find_model
from houndsight.workspace import Workspace

OWN = "def model_fn(model_dir):\n    return 1\n"


def archive(path: Path, files: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def stage(workspace: Workspace, model: str | Path, **script: Any) -> tuple[HandlerModel, dict[str, str]] | None:
    """What the endpoint would get: the description, and the files with their contents."""
    with staged(model, find_model(model), Script(**script), None) as folder:
        if folder is None:
            return None
        files = {each.relative_to(folder / "model").as_posix(): each for each in folder.rglob("*") if each.is_file()
                 and each.is_relative_to(folder / "model")}  # fmt: skip
        found = HandlerModel.read(folder / "handlers.json"), {name: file.read_text() for name, file in files.items()}
    assert not folder.exists()
    return found


def script_job(workspace: Workspace, name: str = "trained") -> Path:
    """A finished job of a training script that has its own model_fn."""
    spec = ScriptSpec(entry_point="train_model.py", source_dir="/nowhere")
    job = workspace.create(spec, name)
    job.code.mkdir()
    (job.code / "train_model.py").write_text(OWN)
    (job.code / "inference.py").write_text(OWN + "# inference\n")
    (job.code / "helper.py").write_text("x = 1\n")
    return archive(job.model_archive, {"model.pth": "weights"})


def test_a_script_alone_comes_alone(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = archive(tmp_path / "m" / "model.tar.gz", {"model.pth": "w", "code/inference.py": "old", "code/h.py": "h"})
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "inference.py").write_text(OWN)
    (tmp_path / "src" / "private.txt").write_text("secret")
    monkeypatch.chdir(tmp_path / "src")
    found = stage(workspace, model, entry_point="inference.py")
    assert found is not None
    assert found[0] == HandlerModel(source=str(model), program="inference.py")
    assert found[1] == {"model.pth": "w", "code/inference.py": OWN, "code/h.py": "h"}


def test_a_source_folder_takes_the_place_of_the_code(workspace: Workspace, tmp_path: Path) -> None:
    model = archive(tmp_path / "m" / "model.tar.gz", {"model.pth": "w", "code/inference.py": "old", "code/h.py": "h"})
    source = tmp_path / "src"
    (source / "lib" / "__pycache__").mkdir(parents=True)
    (source / "serve.py").write_text(OWN)
    (source / "lib" / "a.py").write_text("a")
    (source / "lib" / "__pycache__" / "a.pyc").write_text("junk")
    found = stage(workspace, model, entry_point="serve.py", source_dir=source)
    assert found is not None
    assert found[0].program == "serve.py"
    assert found[1] == {"model.pth": "w", "code/serve.py": OWN, "code/lib/a.py": "a"}


def test_a_script_job_answers_by_its_own_script(workspace: Workspace) -> None:
    script_job(workspace)
    found = stage(workspace, "trained")
    assert found is not None
    assert found[0].program == "train_model.py"
    assert set(found[1]) == {"model.pth", "code/train_model.py", "code/inference.py", "code/helper.py"}
    found = stage(workspace, "trained", entry_point="inference.py")
    assert found is not None
    assert found[0].program == "inference.py"
    assert "code/helper.py" in found[1]


def test_weights_alone_and_a_folder(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "inference.py").write_text(OWN)
    weights = tmp_path / "dogs.pth"
    weights.write_text("w")
    found = stage(workspace, weights, entry_point=str(tmp_path / "inference.py"))
    assert found is not None
    assert found[1] == {"dogs.pth": "w", "code/inference.py": OWN}
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text("a")
    found = stage(workspace, folder, entry_point=str(tmp_path / "inference.py"))
    assert found is not None
    assert found[1] == {"sub/a.txt": "a", "code/inference.py": OWN}


def test_code_of_others_runs_only_where_somebody_vouches_for_it(workspace: Workspace, tmp_path: Path) -> None:
    model = archive(tmp_path / "model.tar.gz", {"model.pth": "w", "code/inference.py": OWN})
    with pytest.raises(SpecError, match=r"its own program \(code/inference.py\), which would run with all your rights"):
        stage(workspace, model)
    found = stage(workspace, model, trust_code=True)
    assert found is not None
    assert found[1]["code/inference.py"] == OWN
    other = archive(tmp_path / "other.tar.gz", {"model.pt": "w"})
    with pytest.raises(SpecError, match="TorchScript"):
        stage(workspace, other)
    assert stage(workspace, other, trust_code=True) is not None
    named = archive(tmp_path / "named.tar.gz", {"code/serve.py": OWN})
    found = stage(workspace, named, trust_code=True)
    assert found is not None
    assert found[0].program == "serve.py"
    assert not list((workspace.cache / "handlers").iterdir())


def test_a_model_of_ours_stays_what_it_is(workspace: Workspace, tmp_path: Path) -> None:
    card = json.dumps({"format": 1, "classes": ["a"], "backbone": "x", "preprocess": {}})
    ours = archive(tmp_path / "model.tar.gz", {"model.json": card, "code/inference.py": "ours"})
    assert stage(workspace, ours) is None
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.json").write_text(card)
    assert stage(workspace, folder) is None
    theirs = archive(tmp_path / "theirs.tar.gz", {"model.json": '{"layers": 3}', "code/inference.py": "theirs"})
    with pytest.raises(SpecError, match="its own program"):
        stage(workspace, theirs)
    (tmp_path / "inference.py").write_text(OWN)
    found = stage(workspace, ours, entry_point=str(tmp_path / "inference.py"))
    assert found is not None
    assert found[1]["code/inference.py"] == OWN


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no such script": ({"entry_point": "absent.py"}, "There is no script absent.py"),
    "no script at all": ({"entry_point": "notes.txt"}, "is no Python file"),
    "not in the source folder": ({"entry_point": "a.py", "source_dir": "."}, "There is no a.py in"),
    "a source folder alone": ({"source_dir": "."}, "without its script"),
    "deeper than the top": (
        {"entry_point": "lib/deep.py", "source_dir": "."},
        "--source-dir .*lib --entry-point deep.py",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_scripts(workspace: Workspace, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = archive(tmp_path / "m" / "model.tar.gz", {"model.pth": "w"})
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "deep.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as caught:
        stage(workspace, model, **WRONG[name][0])
    assert re.search(WRONG[name][1], str(caught.value)), caught.value


def test_packages_are_not_installed_without_leave(workspace: Workspace, tmp_path: Path) -> None:
    wanted = "torch>=2\nPillow\nno-such-package-of-anybody==3\n# a comment\n"
    files: dict[str, bytes | str] = {"m.pth": "w", "code/inference.py": OWN, "code/requirements.txt": wanted}
    model = archive(tmp_path / "model.tar.gz", files)
    with pytest.raises(DependencyError, match="asks for no-such-package-of-anybody, which is not installed") as caught:
        stage(workspace, model, trust_code=True)
    assert "--allow-requirements" in caught.value.repair
    files["code/requirements.txt"] = "torch\nPillow\n"
    found = stage(workspace, archive(tmp_path / "model.tar.gz", files), trust_code=True)
    assert found is not None
    assert found[0].python is None


def hostile(kind: str) -> Callable[[tarfile.TarFile], None]:
    """Adds one bad member to an archive."""

    def add(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo({"absolute": "/x.pth", "up": "../x.pth"}.get(kind, "x.pth"))
        data = b"w"
        match kind:
            case "link":
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            case "hard link":
                member.type, member.linkname = tarfile.LNKTYPE, "../../x"
            case "device":
                member.type = tarfile.CHRTYPE
            case "bomb":
                data = bytes(80 << 20)
        if member.isreg():
            member.size = len(data)
        tar.addfile(member, io.BytesIO(data) if member.isreg() else None)

    return add


@pytest.mark.parametrize("kind", ["absolute", "up", "link", "hard link", "device", "bomb"])
def test_hostile_archives(workspace: Workspace, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        hostile(kind)(tar)
    with pytest.raises(ModelError, match=r"leave its folder|a link or a device|far more than a model"):
        stage(workspace, path, trust_code=True)
    assert not list((workspace.cache / "handlers").iterdir())


def test_broken_archives(workspace: Workspace, tmp_path: Path) -> None:
    whole = archive(tmp_path / "model.tar.gz", {"model.pth": bytes(range(256)) * 400, "code/inference.py": OWN})
    content = whole.read_bytes()
    for name, data in {"cut": content[:-40], "half": content[:200], "text": b"hello", "empty": b""}.items():
        (tmp_path / f"{name}.tar.gz").write_bytes(data)
        with pytest.raises(HoundsightError):
            stage(workspace, tmp_path / f"{name}.tar.gz", trust_code=True)
    header = io.BytesIO()
    with tarfile.open(fileobj=header, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("x")
        member.type, member.size = tarfile.XHDTYPE, 2**33
        tar.addfile(member)
    (tmp_path / "pax.tar.gz").write_bytes(gzip.compress(header.getvalue() + bytes(1 << 20)))
    with pytest.raises(HoundsightError):
        stage(workspace, tmp_path / "pax.tar.gz", trust_code=True)


def test_nothing_that_is_a_model(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither model.json nor code/inference.py nor a .pth or .pt file"):
        stage(workspace, archive(tmp_path / "model.tar.gz", {"readme.txt": "hello"}))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=r"no folder, no model.tar.gz and no file of weights"):
        stage(workspace, tmp_path / "notes.txt")


def test_taking_moves_the_files(tmp_path: Path) -> None:
    from houndsight.serving.settings import InstanceSettings

    model = tmp_path / "staged" / "model"
    (model / "code").mkdir(parents=True)
    (model / "code" / "inference.py").write_text(OWN)
    modeldir.write(tmp_path / "staged", HandlerModel(source="dogs"))
    (tmp_path / "place").mkdir()
    told, about = modeldir.take(tmp_path / "staged", tmp_path / "place", InstanceSettings(model=Path("x")))
    assert told.model == tmp_path / "place" / "model"
    assert told.handlers == told.model / "code" / "inference.py"
    assert told.handlers.read_text() == OWN
    assert about == {"runtime": "handlers", "program": "inference.py"}
    assert not model.exists()


def test_a_script_that_names_the_container(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inference.py").write_text("def model_fn(d):\n    return open('/opt/ml/model/model.pth')\n")
    (tmp_path / "w.pth").write_text("w")
    monkeypatch.setattr(private, "impossible", lambda: "")
    found = stage(workspace, tmp_path / "w.pth", entry_point=str(tmp_path / "inference.py"), trust_pickle=True)
    assert found is not None
    assert (found[0].private, found[0].trust_pickle) == (True, True)
    monkeypatch.setattr(private, "impossible", lambda: "not permitted")
    with pytest.raises(SpecError, match=r"inference.py, line 2 names /opt/ml/model.*not permitted.*SM_MODEL_DIR"):
        stage(workspace, tmp_path / "w.pth", entry_point=str(tmp_path / "inference.py"))


def test_repacked_as_the_sdk_packs_it(workspace: Workspace, tmp_path: Path) -> None:
    script_job(workspace)
    (tmp_path / "src" / "lib").mkdir(parents=True)
    (tmp_path / "src" / "serve.py").write_text(OWN)
    (tmp_path / "src" / "lib" / "a.py").write_text("a")

    def names(path: Path) -> list[str]:
        with tarfile.open(path) as tar:
            return sorted(each.name for each in tar)

    own = houndsight.repack("trained", output=tmp_path / "own")
    assert own == tmp_path / "own" / "model.tar.gz"
    assert names(own) == ["code/helper.py", "code/inference.py", "code/train_model.py", "model.pth"]
    other = houndsight.repack("trained", "serve.py", tmp_path / "src", output=tmp_path / "other.tar.gz")
    assert names(other) == ["code/lib/a.py", "code/serve.py", "model.pth"]
    again = houndsight.repack(other, str(tmp_path / "src" / "lib" / "a.py"), output=other)  # in its own place
    assert names(again) == ["code/a.py", "code/lib/a.py", "code/serve.py", "model.pth"]
    bare = archive(tmp_path / "bare.tar.gz", {"model.pth": "w"})
    with pytest.raises(SpecError, match="No script answers"):
        houndsight.repack(bare, output=tmp_path / "none.tar.gz")
    assert not (tmp_path / "none.tar.gz").exists()
    found = stage(workspace, own, trust_code=True)
    assert found is not None
    assert found[0].program == "inference.py"
