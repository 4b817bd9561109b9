"""The same trainings under smdebug 1.0.34 of the package index and under ours: names, steps, shapes, values.

Needs `HOUNDSIGHT_PEERS`, a folder for the environments of other projects' packages; theirs is made there once. It finds
this environment's torch behind its own packages, since smdebug needs an older numpy. The differences that are listed
here are explained in docs/smdebug.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from houndsight.folders import drop_in
from tests.peers import python_of

PACKAGES = (
    *("smdebug==1.0.34", "numpy==2.2.6", "protobuf==3.20.3", "pyinstrument==3.4.2", "requests", "pandas", "packaging"),
    *("boto3", "setuptools<81"),
)
CASES = ("hook_only", "both", "collections", "reductions", "modes", "json", "all")
CLOSE = 1e-5

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture(scope="session")
def peer() -> Path:
    """The Python of an environment that holds smdebug."""
    return python_of("smdebug", PACKAGES, beside=True)


@pytest.fixture(scope="session")
def both(peer: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Case -> `ours` and `theirs`."""
    told = {}
    for whose, python, paths in (("ours", Path(sys.executable), [str(drop_in())]), ("theirs", peer, [])):
        folder = tmp_path_factory.mktemp(whose)
        command = [str(python), str(Path(__file__).with_name("programs.py")), str(folder), *CASES]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, timeout=300)
        assert done.returncode == 0, done.stderr
        (line,) = [each for each in done.stdout.splitlines() if each.startswith("TOLD ")]
        told[whose] = json.loads(line.removeprefix("TOLD "))
    return {case: {whose: told[whose][case] for whose in told} for case in CASES}


def ordered(found: dict[str, Any]) -> dict[str, Any]:
    """Without the numbers that scripts save themselves: theirs are written at the next saved step, ours at once."""
    names = [name for name in found["names"] if not name.startswith("scalar/")]
    return {**found, "names": names, "tensors": {name: found["tensors"][name] for name in names}}


@pytest.mark.parametrize("case", [case for case in CASES if case != "hook_only"])
def test_names_steps_shapes_and_values(case: str, both: dict[str, dict[str, Any]]) -> None:
    ours, theirs = ordered(both[case]["ours"]), ordered(both[case]["theirs"])
    for key in ("names", "modes", "workers", "losses", "gradients"):
        assert ours[key] == theirs[key], key
    if case != "both":
        assert ours["steps"] == theirs["steps"]
    for name, modes in theirs["tensors"].items():
        for mode, steps in modes.items():
            assert ours["tensors"][name][mode].keys() == steps.keys(), f"{name} {mode}"
            for step, their in steps.items():
                our = ours["tensors"][name][mode][step]
                for key in ("before", "shape", "kind", "error"):
                    assert our.get(key) == their.get(key), f"{name} {mode} {step} {key}"
                for key in ("value", "std", "norm", "reductions"):
                    close = pytest.approx(their[key], rel=CLOSE, abs=CLOSE) if key in their else None
                    assert our.get(key) == close, f"{name} {mode} {step} {key}"


def test_a_loss_is_there_without_register_loss(both: dict[str, dict[str, Any]]) -> None:
    """As in SageMaker's containers; the open smdebug saves nothing at all then, and knows no mode without set_mode."""
    ours, theirs = both["hook_only"]["ours"], both["hook_only"]["theirs"]
    assert (ours["names"], theirs["names"]) == (["CrossEntropyLoss_output_0"], [])
    assert ours["steps"]["GLOBAL"] == ours["steps"]["TRAIN"] == [0, 3, 6, 9, 12]
