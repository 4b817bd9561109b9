"""One file of a script as a tree, and small questions to its nodes; beneath `look_code`, which follows values.

Nothing is run or imported.
"""

import ast
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
MOST_FILES = 40
MOST_BYTES = 1 << 18
"""A source file larger than this was not written by a person."""


@dataclass(frozen=True)
class Place:
    """A line of a script."""

    file: str
    """Path relative to the code's folder."""
    line: int
    """From 1."""
    code: str
    """The line itself, without the blanks around it."""


@dataclass(frozen=True, eq=False)
class Module:
    """One file."""

    file: str
    """Path relative to the code's folder."""
    name: str
    """As it is imported."""
    lines: tuple[str, ...]
    tree: ast.Module


def read(folder: Path, file: str) -> Module:
    """Parse one file; raises `SyntaxError` (TabError and IndentationError are ones) and `OSError`."""
    data = (folder / file).read_bytes()
    if len(data) > MOST_BYTES:
        raise OSError(f"{file} is larger than {MOST_BYTES >> 10} KiB")
    try:
        coding, _ = tokenize.detect_encoding(BytesIO(data).readline)
        text = data.decode(coding)
    except UnicodeDecodeError as error:
        raise SyntaxError(f"{error.reason} in the text", (file, data[: error.start].count(b"\n") + 1, 1, "")) from error
    try:
        tree = ast.parse(data, file)
    except (ValueError, RecursionError, MemoryError) as error:  # a NUL byte, or brackets without end
        raise SyntaxError(str(error) or "it cannot be read", (file, 1, 1, "")) from error
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return Module(file, name, tuple(text.splitlines()), tree)


def same_block(parent: ast.AST, one: ast.AST, other: ast.AST) -> bool:
    """Whether both are statements of the same block of `parent`."""
    blocks = [getattr(parent, name, None) for name in ("body", "orelse", "finalbody")]
    return any(isinstance(block, list) and one in block and other in block for block in blocks)


def imported(node: ast.AST) -> dict[str, str]:
    """Name in the file -> full name, for an import; empty for all else."""
    if isinstance(node, ast.Import):
        heads = {alias.asname or alias.name.partition(".")[0]: alias for alias in node.names}
        return {name: alias.name if alias.asname else name for name, alias in heads.items()}
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name: f"{node.module or ''}.{alias.name}".strip(".") for alias in node.names}
    return {}


def argument(call: ast.Call, place: int | None, *names: str) -> ast.expr | None:
    """An argument by its place or by one of its names; None where it is not given, or behind a star."""
    for keyword in call.keywords:
        if keyword.arg in names:
            return keyword.value
    if (
        place is None
        or place >= len(call.args)
        or any(isinstance(each, ast.Starred) for each in call.args[: place + 1])
    ):
        return None
    return call.args[place]


def method(node: ast.AST, *names: str) -> bool:
    """Whether it calls a method of one of these names."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names


def constant(node: ast.AST | None) -> object:
    """The value of a constant, of a negative number, of a tuple of them; None for all else."""
    if not isinstance(node, ast.expr):
        return None
    try:
        value: object = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return value


def words_of(node: ast.AST) -> Iterator[str]:
    """The strings, attributes and names in an expression, strings first."""
    nodes = list(ast.walk(node))
    yield from (each.value for each in nodes if isinstance(each, ast.Constant) and isinstance(each.value, str))
    yield from (each.attr for each in nodes if isinstance(each, ast.Attribute))
    yield from (each.id for each in nodes if isinstance(each, ast.Name))
