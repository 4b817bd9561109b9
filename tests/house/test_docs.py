"""The documentation tells the truth: commands, names and links are those of the code."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

import houndsight
from houndsight.cli.commands import COMMANDS, WEIGHTS
from houndsight.cli.parse import build

from .tree import PACKAGE, ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks/README.md",
]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_pages_made_from_the_code_are_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "build.py"))["pages"]()
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_are_alive(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_names_every_command() -> None:
    for name in (*COMMANDS, *(f"weights {each}" for each in WEIGHTS)):
        assert f"`houndsight {name}" in README, f"README does not name `houndsight {name}`"


def commands_in(text: str) -> list[str]:
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    typed = [line for block in blocks for line in block.splitlines() if line.startswith("houndsight ")]
    quoted = re.findall(r"`(houndsight [^`]+)`", text)
    return typed + quoted


@pytest.mark.parametrize("line", commands_in(README))
def test_commands_of_the_readme_are_understood(line: str) -> None:
    words = [word for word in shlex.split(line)[1:] if word != "[MODEL]"]
    command, _, unused, _ = build().parse_known_args(words)
    assert not unused
    assert command is not None


def test_make_verbs_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for verb in set(re.findall(r"make (\w+)", README)) & {"demo", "test", "check", "docs", "bench", "build"}:
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE)


def test_exported_names_are_sorted_and_exist() -> None:
    assert houndsight.__all__ == sorted(houndsight.__all__)
    for name in houndsight.__all__:
        assert getattr(houndsight, name) is not None
    assert sorted(dir(houndsight)) == houndsight.__all__


def test_an_unknown_name_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        houndsight.trian  # noqa: B018


def test_no_sub_package_has_the_name_of_a_verb() -> None:
    units = {path.stem for path in PACKAGE.iterdir()}
    assert not units & set(houndsight.__all__)


def test_every_setting_has_a_place_in_the_help() -> None:
    from houndsight.cli.settings import GROUPS
    from houndsight.spec import ClassifierSpec

    placed = sorted(name for names in GROUPS.values() for name in names)
    assert placed == sorted(set(ClassifierSpec.model_fields) - {"kind", "data"})
