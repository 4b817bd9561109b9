"""The same scripts and requests through Amazon's toolkits and through Houndsight: same answers, status and reasons.

Needs `HOUNDSIGHT_PEERS`, a folder for the environments of other projects' packages; theirs is made there once
(`sagemaker-inference` and `sagemaker-pytorch-inference`; torch, numpy and scipy are this environment's).
"""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.peers import python_of

from .scripts import CASES, make
from .test_transformer import CUSTOM, Ran, imports

PACKAGES = ("sagemaker-inference==1.10.1", "sagemaker-pytorch-inference==2.0.25", "six", "retrying", "psutil")
DIFFERENT = {
    ("nothing that can be sent", 0): "TorchServe says so in front of the toolkit: 503 there, too",
    ("only model_fn", 8): "the message alone: theirs speaks of pickles that it would have read",
}
"""(case, number of the request) -> why the answers differ."""

pytestmark = [
    pytest.mark.peer,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
__all__ = ["imports"]  # the fixture that forgets a script's modules


@pytest.fixture(scope="session")
def peer() -> Path:
    """The Python of an environment that holds the toolkits."""
    return python_of("sagemaker-inference", PACKAGES, "--no-deps", beside=True)


@pytest.fixture(scope="session")
def theirs(peer: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Path]]:
    """Their answers by case, and the model folders."""
    base = tmp_path_factory.mktemp("cases")
    models = {name: make(case, base / str(number)) for number, (name, case) in enumerate(CASES.items())}
    documents = {
        name: {
            "model": str(models[name]),
            "requests": [
                {
                    "headers": {**CUSTOM, "Content-Type": asked.content_type, "Accept": asked.accept},
                    "body": base64.b64encode(asked.body).decode(),
                }
                for asked in case.asked
            ],
        }
        for name, case in CASES.items()
    }
    (base / "cases.json").write_text(json.dumps(documents))
    environ = {**os.environ, "SAGEMAKER_BASE_DIR": str(base), "SM_MODEL_DIR": str(base)}
    script = str(Path(__file__).with_name("theirs.py"))
    done = subprocess.run(
        [str(peer), script, str(base / "cases.json")], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), models


@pytest.mark.parametrize("name", CASES)
def test_the_same_as_theirs(theirs: tuple[dict[str, Any], dict[str, Path]], name: str) -> None:
    other = theirs[0][name]
    ran = Ran(theirs[1][name])
    assert (ran.problem == "") == (other["problem"] == "")
    assert words(other["problem"].partition("\n")[0]) in words(ran.problem)
    for number, (asked, answer) in enumerate(zip(CASES[name].asked, other["answers"], strict=False)):
        status, content_type, body = ran.ask(asked)
        if (name, number) in DIFFERENT:
            assert status >= 500
            continue
        said = base64.b64decode(answer["body"])
        assert status == answer["status"], (number, body, said)
        if status < 400:
            assert content_type == answer["type"]
            assert same(body, said), (number, body, said)
        else:
            message = said.decode().partition("\n")[0]  # a traceback follows, here it stands in the log
            assert words(message) in words(str(body)) or message == "Invalid Request", (
                number
            )  # for an error without text


def words(text: str) -> str:
    """A message without its line breaks and indentation."""
    return " ".join(text.split())


def same(mine: bytes | str, yours: bytes) -> bool:
    """Equal byte by byte, or equal JSON to rounding."""
    if mine == yours:
        return True
    try:
        return bool(np.allclose(json.loads(mine), json.loads(yours), rtol=1e-6))
    except (ValueError, TypeError):
        return False
