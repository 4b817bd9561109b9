"""Packages that a script asks for in its requirements.txt, or that it is, installed once, in an environment apart.

    <cache>/packages/<key>/     a virtual environment over this one: what is installed here need not be there

Below everything that runs other people's scripts. Installing runs code of those packages, so nothing is installed that
the user did not allow.
"""

import hashlib
import importlib.util
import logging
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

from houndsight.errors import DependencyError
from houndsight.workspace import friendly_disk_errors, remove_tree

log = logging.getLogger("houndsight")

SHOWN = 8
"""Lines of the installer's last words that an error repeats."""


def interpreter(requirements: Path, cache: Path, package: Path | None = None) -> Path:
    """The Python of an environment that has what `requirements` asks for; made where there is none yet.

    With `package`, a folder with a setup.py or pyproject.toml, that is installed too; the requirements need not be
    there then. Raises `DependencyError` with pip's own words where something cannot be installed; nothing is kept then.
    """
    place = cache / "packages" / _key(requirements, package)
    python = place / "bin" / "python"
    if (place / "complete").is_file():
        return python
    what = [each.name for each in (requirements, package) if each is not None and each.exists()]
    log.info("Installing %s into %s.", " and ".join(what), place)
    with friendly_disk_errors(cache):
        remove_tree(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            _make(place)
            _install(python, requirements, None if package is None else _copy(package, place / "source"))
            (place / "complete").touch()
        except BaseException:
            broken = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
            place.rename(broken)
            remove_tree(broken)
            raise
    return python


def _copy(package: Path, place: Path) -> Path:
    """A copy for the installer, which leaves its own files in what it installs."""
    shutil.copytree(package, place, ignore=shutil.ignore_patterns("__pycache__", ".git"))
    return place


def _key(requirements: Path, package: Path | None) -> str:
    """What it depends on: this Python, this environment, the file, and files beside it that it may name."""
    digest = hashlib.sha256(f"{sys.version}\0{sys.prefix}\0".encode())
    for file in sorted(requirements.parent.glob("*")):
        if file == requirements or (file.is_file() and file.suffix in (".txt", ".whl", ".toml", ".cfg")):
            digest.update(f"{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    for file in sorted(package.rglob("*")) if package is not None else ():
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(package or file)}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
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
    if importlib.util.find_spec("setuptools") is not None:  # Python 3.11 brings one of 2022 that hides it
        for each in ("setuptools*", "pkg_resources", "_distutils_hack", "distutils-precedence.pth"):
            for found in Path(inside).glob(each):
                remove_tree(found) if found.is_dir() else found.unlink()
    ours = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    lines = [f"import site; site.addsitedir({each!r})" for each in dict.fromkeys(ours)]
    (Path(inside) / "beside.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _backend(package: Path) -> str:
    """The module that builds the package, as its pyproject.toml names it."""
    file = package / "pyproject.toml"
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError:
        found = {}
    return str(found.get("build-system", {}).get("build-backend", "setuptools")).partition(".")[0].partition(":")[0]


def _install(python: Path, requirements: Path, package: Path | None) -> None:
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    if requirements.is_file():
        command += ["-r", str(requirements)]
    if package is not None:
        # What builds it is taken from here where it is here: else pip fetches it anew each time.
        here = importlib.util.find_spec(_backend(package)) is not None
        command += [*(["--no-build-isolation"] if here else []), str(package)]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command, cwd=requirements.parent, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-SHOWN:])
        what = requirements.name if package is None else "The package of the script"
        raise DependencyError(
            f"{what} cannot be installed: pip ended with code {done.returncode}.\n{last}",
            "Install the packages beside Houndsight, or correct the file.",
        )
