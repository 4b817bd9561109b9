"""Every script of `scripts` through the functions that the handlers' process runs, here in the process of the test."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from houndsight.serving import handlers_toolkit as toolkit
from houndsight.serving.handlers_worker import Transformer, answered, loaded

from .scripts import CASES, JSON, ROWS, Asked, make

# torch.jit is deprecated; scripts use it all the same.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]

CUSTOM = {"x-amzn-sagemaker-custom-attributes": "mine"}


@pytest.fixture(autouse=True)
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A script's modules are forgotten after each test, and so is what stands in for Amazon's."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    toolkit.provide()
    yield
    for name in set(sys.modules) - before:
        if name in ("inference", "helper") or name.startswith("sagemaker_inference"):
            del sys.modules[name]


class Ran:
    """A loaded script, or why it is not."""

    def __init__(self, model: Path) -> None:
        sys.path.insert(0, str(model / "code"))
        self.transformer = Transformer(str(model), "inference.py")
        self.problem = loaded(self.transformer)

    def ask(self, asked: Asked) -> tuple[int, str | None, bytes | str]:
        """Status, content type, and the body or the sentence."""
        head = {"number": 1, "content_type": asked.content_type, "accept": asked.accept, "headers": CUSTOM}
        said, body = answered(self.transformer, head, bytearray(asked.body))
        if "error" in said:
            return said["status"], None, said["error"]
        return said["status"], said["headers"]["content-type"], body


def run(name: str, base: Path) -> Ran:
    return Ran(make(CASES[name], base))


TRACED = [name for name, case in CASES.items() if case.model.startswith("jit")]
"""torch.jit alone takes 3 s to import what it needs."""


@pytest.mark.parametrize("name", [pytest.param(each, marks=[pytest.mark.slow] * (each in TRACED)) for each in CASES])
def test_scripts_load_or_say_why_not(name: str, tmp_path: Path) -> None:
    ran = run(name, tmp_path)
    assert (ran.problem == "") == CASES[name].loads, ran.problem
    if CASES[name].loads:
        status, content_type, body = ran.ask(CASES[name].asked[0])
        assert status < 400 or name in FAILS, body
        assert (content_type is not None) == (name not in FAILS)


FAILS = {
    "wrong number of parameters": (500, "predict_fn takes 1 arguments but 2 were given."),
    "nothing that can be sent": (503, "Unsupported model output data type: set."),
    "raises": (500, "RuntimeError: no luck today (inference.py, line "),
}


@pytest.mark.parametrize("name", FAILS)
def test_what_fails_is_one_sentence_with_its_place(name: str, tmp_path: Path) -> None:
    status, _, said = run(name, tmp_path).ask(Asked(JSON, ROWS))
    assert status == FAILS[name][0]
    assert isinstance(said, str)
    assert FAILS[name][1] in said
    assert "\n" not in said


PROBLEMS = {
    "weights and no model_fn": "Please ensure model is saved using torchscript",
    "two models and no model_fn": "Exactly one .pth or .pt file is required",
    "both kinds": "Cannot use transform_fn implementation in conjunction with input_fn",
    "raises while it is imported": "No module named 'no_such_module_at_all' (inference.py, line 1, in <module>)",
    "raises while it loads": "FileNotFoundError",
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_why_a_model_cannot_be_loaded(name: str, tmp_path: Path) -> None:
    assert PROBLEMS[name] in run(name, tmp_path).problem


def test_defaults_read_and_write_what_the_container_does(tmp_path: Path) -> None:
    ran = run("only model_fn", tmp_path)
    answers = [ran.ask(asked) for asked in CASES["only model_fn"].asked]
    assert [status for status, *_ in answers] == [200] * 5 + [500] + [200] * 2 + [500] * 8
    rows = json.loads(answers[0][2])
    assert np.array(rows).shape == (2, 2)
    assert answers[0][1] == answers[1][1] == JSON
    assert answers[4][1] == "application/json, text/csv"  # as there: the header comes back as it was
    table = bytes(answers[2][2]).decode() if isinstance(answers[2][2], bytes) else answers[2][2]
    np.testing.assert_allclose(np.loadtxt(table.splitlines(), delimiter=","), np.array(rows), rtol=1e-6)
    assert "Content type text/plain is not supported" in str(answers[-1][2])


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    import io
    import pickle

    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harmed",))

    out = io.BytesIO()
    np.save(out, np.array([Harm()], dtype=object), allow_pickle=True)
    assert b"touch" in out.getvalue()
    status, _, said = run("only model_fn", tmp_path).ask(Asked("application/x-npy", out.getvalue()))
    assert status == 500
    assert "allow_pickle=False" in str(said)
    assert not (tmp_path / "harmed").exists()
    pickle.loads(pickle.dumps(Harm()))  # it would have
    assert (tmp_path / "harmed").exists()


def test_a_script_chooses_the_status_of_its_error(tmp_path: Path) -> None:
    ran = run("chooses its error", tmp_path)
    found = [ran.ask(asked) for asked in CASES["chooses its error"].asked]
    assert [status for status, *_ in found] == [200, 415, 400, 200]
    assert found[1][2] == "only JSON"
    assert found[2][2] == "three numbers a row"


def test_the_context_knows_the_request_and_words_the_answer(tmp_path: Path) -> None:
    status, _, body = run("with context", tmp_path / "a").ask(Asked(JSON, ROWS))
    assert (status, json.loads(body)[1:]) == (200, ["mine", True])
    sys.modules.pop("inference")
    assert run("transform_fn with context", tmp_path / "b").ask(Asked(JSON, ROWS)) == (201, "text/plain", b"made")


def test_bodies_are_bytearrays_as_torchserve_gives_them(tmp_path: Path) -> None:
    ran = run("takes bytes apart", tmp_path)
    assert ran.transformer.functions["input_fn"](bytearray(b"\x07abc"), "x").tolist() == [[4.0, 7.0, 1.0]]
    assert ran.ask(CASES["takes bytes apart"].asked[0])[0] == 200
