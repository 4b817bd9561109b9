"""The source tree as the house tests see it: files, their level, what each imports at any depth."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "houndsight"

LEVELS = {
    "errors": 0,
    "spec": 0.1,
    "results": 0.2,
    "metrics": 0.3,
    "folders": 0.35,
    "workspace": 0.4,
    "s3": 0.4,
    "data": 1,
    "models": 1,
    "records": 1,
    "recipes": 1,
    "backends": 1,
    "features": 2,
    "watch": 2,
    "tuning": 2,
    "serving": 2,
    "training": 3,
    "reports": 3,
    "scripts": 3.9,
    "contract": 4,
    "live": 5,
    "aws": 5,
    "worker": 6,
    "controller": 6,
    "warm": 6.5,
    "verbs": 7,
    "cli": 8,
    "__init__": 9,
}
"""Sub-package or file -> level; level 0 is some files deep, in this order."""


@dataclass(frozen=True)
class Source:
    """One file of the package."""

    path: Path
    unit: str
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Path within the package."""
        return self.path.relative_to(PACKAGE).as_posix()

    def imports(self) -> list[str]:
        """Every module this file imports, at any depth: deferred and TYPE_CHECKING imports too."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} imports relatively"
                module = node.module or ""
                # `from houndsight import x` and `from houndsight.data import folder` name modules, too.
                found += [
                    f"{module}.{alias.name}" if module.startswith("houndsight") else module for alias in node.names
                ]
        return found


@cache
def sources() -> list[Source]:
    """All files of the package, by path."""
    return [_source(path) for path in sorted(PACKAGE.rglob("*.py"))]


def _source(path: Path) -> Source:
    inside = path.relative_to(PACKAGE)
    text = path.read_text(encoding="utf-8")
    return Source(path, inside.parts[0].removesuffix(".py"), text, ast.parse(text, str(path)))


def python_files() -> list[Path]:
    """All Python files that are kept: source, tests, benchmarks, documentation."""
    return [path for folder in ("src", "tests", "benchmarks", "docs") for path in sorted((ROOT / folder).rglob("*.py"))]
