"""A model that is not Houndsight's, as the folder that Amazon's container has at /opt/ml/model; made at deploy time.

    model/                the archive's files, or a job's, or the one file that was given
    model/code/           the script that answers, and what it needs
    handlers.json         `HandlerModel`

Nothing is opened or imported here. An archive is unpacked member by member under limits.
"""

import gzip
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from pydantic import Field

from houndsight.backends.private import PLACE
from houndsight.errors import ModelError
from houndsight.serving.settings import InstanceSettings
from houndsight.spec import Frozen
from houndsight.workspace import friendly_disk_errors, write_json

PROGRAM = "inference.py"
"""Amazon's name for the script."""
CARD = "model.json"
MOST_MEMBERS = 20_000
MOST_BYTES = 20 * 2**30
MOST_RATIO = 200
"""Unpacked to packed; weights reach 1.1, text 10, zeros 1000."""
MOST_AT_ONCE = 2**24
_REPAIR = "Pack it again, as SageMaker does: the model's files at the top, the script in code/."


class HandlerModel(Frozen):
    """A staged model and how it is served; `handlers.json`."""

    source: str
    """The model as it was named."""
    program: str = PROGRAM
    """The script, in `model/code/`; the container's defaults answer where there is none."""
    python: str | None = None
    """The interpreter that has the packages which the script asked for."""
    variables: dict[str, str] = Field(default_factory=dict)
    """Further environment variables for the script."""
    private: bool = False
    """The script names /opt/ml/model itself: it is given the folder there."""
    trust_pickle: bool = False
    """`torch.load` may run what the model's files hold."""


def is_staged(path: Path) -> bool:
    """Whether `path` is a folder that `write` made."""
    return (path / "handlers.json").is_file()


def write(folder: Path, model: HandlerModel) -> None:
    """Finish a staged folder: from now on an endpoint can take it."""
    write_json(folder / "handlers.json", model)


def take(staged: Path, place: Path, settings: InstanceSettings) -> tuple[InstanceSettings, dict[str, Any]]:
    """Move a staged model to `place`/model; what its instances are told, and what is said about it."""
    model = HandlerModel.read(staged / "handlers.json")
    with friendly_disk_errors(place):
        shutil.move(staged / "model", place / "model")
    code = place / "model" / "code" / model.program
    python = Path(model.python) if model.python else None
    folders = [str(place / "model"), *([str(PLACE)] if model.private else [])]
    trusted = {"HOUNDSIGHT_TRUST_PICKLE": os.pathsep.join(folders)} if model.trust_pickle else {}
    told = settings.model_copy(
        update={
            "model": place / "model",
            "handlers": code,
            "python": python,
            "variables": {**model.variables, **trusted},
            "private": model.private,
        }
    )
    return told, {"runtime": "handlers", "program": model.program}


# ------------------------------------------------------------------------------------- what lies there


def is_ours(path: Path) -> bool:
    """Whether a folder holds an artifact of Houndsight."""
    return (path / CARD).is_file() and _is_card((path / CARD).read_bytes())


def _is_card(content: bytes) -> bool:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"format", "classes", "backbone", "preprocess"} <= set(document)


def scripts(model: Path) -> list[str]:
    """Names of the Python files at the top of its `code/`."""
    return sorted(each.name for each in (model / "code").glob("*.py"))


def torchscripts(model: Path) -> list[str]:
    """Names of the files that the container's default model_fn would load."""
    return sorted(each.name for each in model.iterdir() if each.is_file() and each.suffix in (".pt", ".pth"))


# ---------------------------------------------------------------------------------------------- unpack


def fill(source: Path, target: Path) -> None:
    """Make `target` of an archive, a folder or a single file; raises `ModelError` for what is hostile or broken."""
    with friendly_disk_errors(target):
        target.mkdir(parents=True)
        if source.is_dir():
            _copy_tree(source, target)
        elif _is_packed(source):
            _unpack(source, target)
        elif source.suffix in (".pt", ".pth", ".safetensors", ".onnx"):
            shutil.copyfile(source, target / source.name)
        else:
            raise ModelError(f"{source} is no folder, no model.tar.gz and no file of weights.", _REPAIR)


def _is_packed(source: Path) -> bool:
    """By its name, for a torn archive is none by its contents."""
    return source.name.endswith((".tar.gz", ".tgz", ".tar")) or tarfile.is_tarfile(source)


def _copy_tree(source: Path, target: Path) -> None:
    """Files and folders; links are followed to files, as SageMaker's packing does, and everything else is left out."""
    for each in sorted(source.rglob("*")):
        inside = each.relative_to(source)
        if each.is_file() and "__pycache__" not in inside.parts:
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(each, target / inside)


def add_code(model: Path, files: Mapping[str, Path], *, alone: bool) -> None:
    """Put a script's files into `code/`: a script alone beside what is there, a source folder in its place."""
    code = model / "code"
    with friendly_disk_errors(model):
        if not alone and code.is_dir():
            shutil.rmtree(code)
        for name, file in files.items():
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, code / name)


def _unpack(archive: Path, target: Path) -> None:
    """Raises `ModelError` for members that would leave the folder, links, devices, and for far too much of anything."""
    total, most = 0, max(64 * 2**20, min(MOST_BYTES, MOST_RATIO * archive.stat().st_size))
    try:
        with _opened(archive) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for count, member in enumerate(tar, start=1):
                _check_name(member, archive)
                total += member.size
                if count > MOST_MEMBERS or total > most:
                    raise ModelError(f"{archive} unpacks to far more than a model holds.", "It is refused.")
                if member.isreg():
                    tar.extract(member, target, set_attrs=False, filter="data")
    except (EOFError, OSError, tarfile.TarError, gzip.BadGzipFile, zlib.error, UnicodeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).strip() or type(error).__name__
        raise ModelError(f"{archive} is not a whole .tar.gz archive: {reason}.", _REPAIR) from error


class _Bounded(gzip.GzipFile):
    """A gzip file that is never read in one piece: tarfile believes what an extended header says of its own size."""

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes; raises `tarfile.ReadError` for an absurd size."""
        if size is None or not 0 <= size <= MOST_AT_ONCE:
            raise tarfile.ReadError("one of its headers is absurdly long")
        return super().read(size)


def _opened(archive: Path) -> IO[bytes]:
    with archive.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], _Bounded(archive, "rb")) if packed else archive.open("rb")


def _check_name(member: tarfile.TarInfo, archive: Path) -> None:
    path, shown = PurePosixPath(member.name), member.name[:100]
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise ModelError(f"{archive} holds '{shown}', which would leave its folder when unpacked.", "It is refused.")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ModelError(f"{archive} holds '{shown}', which is a link or a device, not a file.", "It is refused.")
