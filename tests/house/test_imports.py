"""Imports point down only, heavy packages stay behind their fences, and light commands start light."""

import subprocess
import sys

import pytest

from .tree import LEVELS, Source, sources

TORCH = (
    *("data/images.py", "data/loader.py", "models/", "features/", "watch/", "serving/", "training/", "contract/"),
    *("warm/", "scripts/"),
)
FENCES = {
    "torch": TORCH,
    "torchvision": TORCH,
    "timm": TORCH,
    "ray": ("backends/ray",),
    "boto3": ("s3.py", "backends/sagemaker", "aws/"),
    "botocore": ("s3.py", "backends/sagemaker", "aws/"),
    "starlette": ("serving/", "live/", "aws/"),
    "uvicorn": ("serving/", "live/", "aws/"),
    "cyclopts": ("cli/",),
    "rich": ("cli/",),
}
"""Package -> beginnings of the paths that may import it."""


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_imports_point_down(source: Source) -> None:
    for module in source.imports():
        parts = module.split(".")
        if parts[0] != "houndsight":
            continue
        target = parts[1] if len(parts) > 1 else "__init__"
        assert target in LEVELS, f"{source.name} imports {module}, which has no level"
        assert target == source.unit or LEVELS[target] < LEVELS[source.unit], f"{source.name} imports {module}"


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_fences(source: Source) -> None:
    for module in source.imports():
        allowed = FENCES.get(module.split(".")[0])
        assert allowed is None or source.name.startswith(allowed), f"{source.name} imports {module}"


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_sub_packages_re_export_nothing(source: Source) -> None:
    drop_in = source.name.startswith("scripts/drop_in/")  # another package, whose names others import
    if source.path.name == "__init__.py" and source.unit != "__init__" and not drop_in:
        assert len(source.tree.body) == 1, f"{source.name} holds more than its docstring"


def loaded_after(code: str, among: set[str]) -> list[str]:
    """Which packages of `among` are loaded after `code` ran in a fresh Python."""
    code += "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return sorted(set(done.stderr.split()) & among)


HEAVY = {"torch", "torchvision", "timm", "openvino", "sklearn", "scipy", "pandas", "boto3", "ray"}


def test_importing_the_package_loads_nothing() -> None:
    assert loaded_after("import houndsight", HEAVY | {"numpy", "pydantic", "cyclopts", "rich"}) == []


def test_root_help_loads_neither_torch_nor_pydantic_nor_the_parser() -> None:
    code = "from houndsight.cli.app import run\nassert run(['--help']) == 0"
    assert loaded_after(code, HEAVY | {"numpy", "pydantic", "cyclopts", "rich"}) == []


@pytest.mark.parametrize("command", ["train --help", "jobs", "jobs --json", "weights list", "train /nowhere"])
def test_light_commands_start_without_torch(command: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("nothing")
    code = f"import os; os.environ['HOUNDSIGHT_HOME'] = {str(place)!r}\n"
    code += f"from houndsight.cli.app import run\nrun({command.split()!r})"
    assert loaded_after(code, HEAVY) == []
