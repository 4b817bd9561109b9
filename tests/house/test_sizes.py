"""Files and functions stay small, and every file says what it is."""

import ast
from pathlib import Path

import pytest

from .tree import ROOT, Source, python_files, sources

FILE, FUNCTION = 400, 60
LOOP = ("training/loop.py", "fit")
LOOP_LINES = 100


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_files_are_short(source: Source) -> None:
    assert len(source.text.splitlines()) <= FILE


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_functions_are_short(source: Source) -> None:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            limit = LOOP_LINES if (source.name, node.name) == LOOP else FUNCTION
            assert lines <= limit, f"{source.name}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", python_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_opens_with_a_sentence(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not text.strip():
        return  # a folder of tests that is a package, and nothing else
    doc = ast.get_docstring(ast.parse(text)) or ""
    first = doc.partition("\n\n")[0].rstrip()
    assert first.endswith((".", ":", "?")), f"{path.name} does not say what it is"


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_at_most_one_level_of_inheritance_of_our_own(source: Source) -> None:
    own = {node.name: node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)}
    for node in own.values():
        for base in node.bases:
            parent = own.get(base.id) if isinstance(base, ast.Name) else None
            grandparents = [each.id for each in parent.bases if isinstance(each, ast.Name)] if parent else []
            deep = [each for each in grandparents if each in own]
            # Errors are a tree, and each is nothing but its name.
            assert not deep or source.name == "errors.py", (
                f"{source.name}: {node.name} inherits from {deep} over two levels"
            )
