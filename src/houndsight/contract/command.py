"""How a script is started: by Python, as a module of a package, or as a program of its own; no shell takes part."""

import importlib.metadata
import os
import re
import sys
from pathlib import Path

_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")


def command(code: Path, entry_point: str, arguments: list[str]) -> list[str]:
    """The words of the command, run in `code`: the choice is `sagemaker-training`'s.

    A `.py` file runs under this Python, as `-m module` where a setup.py lies beside it. Anything else is made
    executable and started by its `#!` line, or by /bin/sh where it has none.
    """
    if not entry_point.endswith(".sh") and (code / "setup.py").is_file():
        return [sys.executable, "-m", entry_point.removesuffix(".py"), *arguments]
    if entry_point.endswith(".py"):
        return [sys.executable, "--", entry_point, *arguments]
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
        match = _REQUIREMENT.match(line.strip())
        if match is not None and "://" not in line and not _installed(match[1]):
            missing.append(match[1])
    return list(dict.fromkeys(missing))


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
