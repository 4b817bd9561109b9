"""How a script is started: by Python, as a module of a package, or as a program of its own; no shell takes part."""

import importlib.metadata
import os
import re
import sys
from pathlib import Path

_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")
_WHEEL = re.compile(r"(?:^|/)([A-Za-z0-9_.]+)-[^/\s]+\.whl")


def command(code: Path, entry_point: str, arguments: list[str], python: str = sys.executable) -> list[str]:
    """The words of the command, run in `code`: the choice is `sagemaker-training`'s.

    A `.py` file runs under `python`, as `-m module` where a setup.py lies beside it. Anything else is made
    executable and started by its `#!` line, or by /bin/sh where it has none.
    """
    if not entry_point.endswith(".sh") and (code / "setup.py").is_file():
        return [python, "-m", entry_point.removesuffix(".py"), *arguments]
    if entry_point.endswith(".py"):
        return [python, "--", entry_point, *arguments]
    script = code / entry_point
    script.chmod(script.stat().st_mode | 0o700)
    with script.open("rb") as file:
        starts_itself = file.read(4)[:2] == b"#!" or _is_program(script)
    return [*([] if starts_itself else ["/bin/sh"]), f".{os.sep}{entry_point}", *arguments]


def _is_program(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(4) in (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


def not_installed(code: Path) -> list[str]:
    """Packages that `requirements.txt` beside the script names and that this Python does not have, in its order.

    Only names are compared: versions are what pip would decide.
    """
    file = code / "requirements.txt"
    if not file.is_file():
        return []
    missing = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        name = _name(line.strip())
        if name and not _installed(name):
            missing.append(name)
    return list(dict.fromkeys(missing))


def _name(line: str) -> str:
    """The package that a line asks for: `name>=1`, `name @ address`, or the name of a wheel; else nothing."""
    wheel = _WHEEL.search(line)
    match = wheel or _REQUIREMENT.match(line)
    return "" if match is None or (wheel is None and "://" in line and "@" not in line) else match[1]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
