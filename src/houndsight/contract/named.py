"""Where a script names a folder of SageMaker's containers itself (/opt/ml/...), file and line; before it is started.

Comments and docstrings name nothing, and neither does a default that is never taken: `os.environ.get("SM_MODEL_DIR",
"/opt/ml/model")`.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

_NAMED = re.compile(r"/opt/ml(?:/[A-Za-z0-9_.{}-]+)*(?![A-Za-z0-9_])")
_TEXT = (".sh", ".bash", ".json", ".yaml", ".yml", ".toml", ".cfg", ".ini")
_MOST_BYTES = 2_000_000
_VARIABLES = (
    ("/opt/ml/input/config", "SM_INPUT_CONFIG_DIR"),
    ("/opt/ml/input/data", "SM_CHANNEL_..."),
    ("/opt/ml/input", "SM_INPUT_DIR"),
    ("/opt/ml/model", "SM_MODEL_DIR"),
    ("/opt/ml/output/data", "SM_OUTPUT_DATA_DIR"),
    ("/opt/ml/output", "SM_OUTPUT_DIR"),
)


@dataclass(frozen=True)
class Mention:
    """One place that names such a folder."""

    where: str
    """File and line, or the hyperparameter."""
    path: str
    """What it names."""

    @property
    def variable(self) -> str:
        """The variable that holds the same folder, or nothing where there is none."""
        found = next((name for place, name in _VARIABLES if self.path.startswith(place)), "")
        if found == "SM_CHANNEL_..." and len(parts := PurePosixPath(self.path).parts) > 5:
            return f"SM_CHANNEL_{parts[5].upper()}"
        return found


def mentions(
    root: Path, files: Iterable[Path], variables: Iterable[str] = (), given: Mapping[str, Any] | None = None
) -> list[Mention]:
    """What the files below `root` name, and the hyperparameters and variables in `given`, by name.

    `variables` are the channels' SM_CHANNEL_ variables that the script will find, so that their defaults do not count.
    """
    known, found = frozenset(variables), []
    for file in files:
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            continue
        name = file.relative_to(root).as_posix()
        text = file.read_text(encoding="utf-8", errors="replace")
        if "/opt/ml" not in text:
            continue
        if file.suffix == ".py":
            found += [Mention(f"{name}, line {line}", path) for line, path in _in_python(text, known)]
        elif file.suffix in _TEXT or text.startswith("#!"):
            found += [Mention(f"{name}, line {line}", path) for line, path in _in_text(text)]
    for name, value in (given or {}).items():
        if match := _NAMED.search(value if isinstance(value, str) else json.dumps(value, default=str)):
            found.append(Mention(name, match[0]))
    return found


def _in_text(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        match = _NAMED.search(line)
        if match and not line.lstrip().startswith("#"):
            yield number, match[0]


def _in_python(text: str, known: frozenset[str]) -> Iterator[tuple[int, str]]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        yield from _in_text(text)  # it will say so itself when it is run
        return
    silent = {id(each) for node in ast.walk(tree) for each in _never_taken(node, known)}
    found: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            match = _NAMED.search(node.value)
            if match:
                found.setdefault(node.lineno, match[0])
    yield from sorted(found.items())


def _never_taken(node: ast.AST, known: frozenset[str]) -> Iterator[ast.AST]:
    """Nodes below `node` whose text is only read by people, or stands behind a variable that is always there."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    elif isinstance(node, ast.Call) and len(node.args) == 2 and _is_set(node.args[0], known):
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "getenv"):
            yield from ast.walk(node.args[1])
    elif isinstance(node, ast.IfExp | ast.BoolOp) and any(_is_set(each, known) for each in ast.walk(node)):
        yield from ast.walk(node)


def _is_set(node: ast.AST, known: frozenset[str]) -> bool:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or not node.value.startswith("SM_"):
        return False
    return not node.value.startswith("SM_CHANNEL_") or node.value in known


def refusal(found: list[Mention], why: str) -> tuple[str, str]:
    """What is said where the machine cannot give the script what it names: the problem, and the ways out."""
    if not found:
        return f"The script cannot be given an /opt/ml of its own here: {why}.", "Leave --opt-ml out."
    shown = "; ".join(f"{each.where} names {each.path}" for each in found[:3])
    more = f" and {len(found) - 3} more places" if len(found) > 3 else ""
    instead = sorted({each.variable for each in found if each.variable})
    read = f"have it read {', '.join(instead)}, " if instead else ""
    ways = (
        f"Ways out: {read}run as root, let ordinary users make namespaces "
        "(sysctl kernel.apparmor_restrict_unprivileged_userns=0), or --opt-ml never where it does without."
    )
    return f"{shown}{more}, which cannot be given to it here: {why}.", ways
