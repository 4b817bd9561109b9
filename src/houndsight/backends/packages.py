"""Packages that a script asks for in its requirements.txt, installed once into an environment of their own.

    <cache>/packages/<key>/     a virtual environment over this one: what is installed here need not be there

Below everything that runs other people's scripts. Installing runs code of those packages, so nothing is installed that
the user did not allow.
"""

import hashlib
import logging
import os
import secrets
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from houndsight.errors import DependencyError
from houndsight.workspace import friendly_disk_errors, remove_tree

log = logging.getLogger("houndsight")

SHOWN = 8
"""Lines of the installer's last words that an error repeats."""


def interpreter(requirements: Path, cache: Path) -> Path:
    """The Python of an environment that has what `requirements` asks for; made where there is none yet.

    Raises `DependencyError` with pip's own words where something cannot be installed; nothing is kept then.
    """
    place = cache / "packages" / _key(requirements)
    python = place / "bin" / "python"
    if (place / "complete").is_file():
        return python
    log.info("Installing %s into %s.", requirements.name, place)
    with friendly_disk_errors(cache):
        remove_tree(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            _make(place)
            _install(python, requirements)
            (place / "complete").touch()
        except BaseException:
            broken = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
            place.rename(broken)
            remove_tree(broken)
            raise
    return python


def _key(requirements: Path) -> str:
    """What it depends on: this Python, this environment, the file, and files beside it that it may name."""
    digest = hashlib.sha256(f"{sys.version}\0{sys.prefix}\0".encode())
    for file in sorted(requirements.parent.glob("*")):
        if file == requirements or (file.is_file() and file.suffix in (".txt", ".whl", ".toml", ".cfg")):
            digest.update(f"{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:24]


def _make(place: Path) -> None:
    """A virtual environment that sees this one's packages after its own, whether or not this is one itself."""
    try:
        venv.create(place, with_pip=True, symlinks=True)
    except (subprocess.CalledProcessError, OSError) as error:
        raise DependencyError(
            f"No environment for further packages can be made: {error}.", "Install the packages beside Houndsight."
        ) from error
    inside = sysconfig.get_path("purelib", "venv", vars={"base": str(place)})
    ours = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    lines = [f"import site; site.addsitedir({each!r})" for each in dict.fromkeys(ours)]
    (Path(inside) / "beside.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _install(python: Path, requirements: Path) -> None:
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "-r",
        str(requirements),
    ]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [*command, "-r", str(requirements)], cwd=requirements.parent, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-SHOWN:])
        raise DependencyError(
            f"{requirements.name} cannot be installed: pip ended with code {done.returncode}.\n{last}",
            "Install the packages beside Houndsight, or correct the file.",
        )
