"""Nothing that is kept names a machine's own paths or a registry, and nothing is left half-done."""

import re
import subprocess
from pathlib import Path

import pytest

from .tree import ROOT

# Put together here, so that this file does not find itself.
PATHS = re.compile(
    "/(?:" + "|".join(["wo" + "rk", "fa" + "rm", "ro" + "ot", "ho" + "me/[a-z]+"]) + r")/|/tm" + r"p/[a-z]+/"
)
HOSTS = re.compile("|".join(["pypi\\." + "org", "files\\.python" + "hosted", "[^-]index-" + "url", "anacon" + "da"]))
OPEN = re.compile(
    "|".join(["raise NotImplemented" + "Error", "TO" + "DO", "FIX" + "ME", "XX" + "X", "mark\\.x" + "fail"])
)


def kept() -> list[Path]:
    """Text files under version control or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


@pytest.mark.parametrize("pattern", [PATHS, HOSTS, OPEN], ids=["paths", "hosts", "half-done"])
def test_no_forbidden_words(pattern: re.Pattern[str]) -> None:
    found = []
    for path in kept():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found


def test_no_large_files() -> None:
    assert not [path for path in kept() if path.stat().st_size > 1 << 20]
