"""Environments of their own for other projects' packages, which run beside ours."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest


def python_of(name: str, packages: tuple[str, ...], *options: str, beside: bool = False) -> Path:
    """The Python of the environment `name` below $HOUNDSIGHT_PEERS; made where there is none yet.

    `options` are pip's; `beside` lets it import what is installed here, where its own packages lack it.
    """
    place = os.environ.get("HOUNDSIGHT_PEERS")
    if not place:
        pytest.skip(f"HOUNDSIGHT_PEERS names no folder for the environment of {name}")
    folder = Path(place).expanduser() / name
    python = folder / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *options, *packages], check=True)
        if beside:
            (own,) = folder.glob("lib/python*/site-packages")
            (own / "zz-beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python
