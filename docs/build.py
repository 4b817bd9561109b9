"""Writes the pages that show the code: every command with its flags, every public name; `make docs` runs it."""

import ast
import inspect
import textwrap
from pathlib import Path
from typing import Any

from cyclopts import App

import houndsight
from houndsight.cli.commands import COMMANDS, WEIGHTS
from houndsight.cli.parse import DEFAULTS, build

HERE = Path(__file__).parent


def pages() -> dict[Path, str]:
    """File -> what it is to hold."""
    return {HERE / "commands.md": commands(), HERE / "python.md": python()}


def commands() -> str:
    """Every command with its arguments and flags."""
    app = build()
    lines = ["# Commands", "", "Made by `make docs`; a test compares it with the code.", ""]
    for name in COMMANDS:
        lines += _command(app[name], name)
    for name in WEIGHTS:
        lines += _command(app["weights"][name], f"weights {name}")
    return "\n".join(lines)


def _command(app: App, name: str) -> list[str]:
    function: Any = app.default_command
    lines = [f"## houndsight {name}", "", inspect.getdoc(function) or "", ""]
    for argument in app.assemble_argument_collection(default_parameter=DEFAULTS):
        if not argument.show or not argument.names:
            continue
        flag = ", ".join(argument.names)
        value = argument.parameter.metavar or ("" if argument.hint is bool else "WORD")
        written = flag if argument.field_info.is_positional_only or not flag.startswith("-") else f"{flag} {value}"
        lines.append(f"- `{written.strip()}`: {argument.parameter.help}")
    return [*lines, ""]


def python() -> str:
    """Every public name with its signature and its first paragraph."""
    lines = ["# Python", "", "Made by `make docs`; a test compares it with the code.", ""]
    for name in houndsight.__all__:
        thing = getattr(houndsight, name)
        doc = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
        signature = "" if inspect.isclass(thing) else _signature(thing)
        lines += [f"## houndsight.{name}", "", *([f"    {name}{signature}", ""] if signature else []), doc, ""]
        if inspect.isclass(thing) and not issubclass(thing, Exception):
            lines += [*_members(thing), ""]
    return "\n".join(lines)


def _members(kind: type) -> list[str]:
    members = {name: each for name, each in vars(kind).items() if not name.startswith("_") and inspect.getdoc(each)}
    return [f"- `{name}`: {(inspect.getdoc(each) or '').splitlines()[0]}" for name, each in sorted(members.items())]


def _signature(function: Any) -> str:
    # From the source, as it was written: what `inspect.signature` prints differs from one Python to the next.
    [node] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){returned}"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path)
