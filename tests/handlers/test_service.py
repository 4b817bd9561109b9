"""Handlers in their process: what they raise, break, hold up and leak, and that nobody else is hurt by it."""

import json
import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from houndsight.backends import private

from .conftest import Lives, Serve

Capture = pytest.CaptureFixture[str]

ECHO = """
import os, time

def model_fn(model_dir):
    print("loaded", flush=True)
    return {"model_dir": model_dir, "cwd": os.getcwd(), "sm": os.environ["SM_MODEL_DIR"], "pid": os.getpid()}

def transform_fn(model, data, content_type, accept):
    word = data.decode() if isinstance(data, bytearray) else data
    if word == "raise":
        raise ValueError("no  such\\nword")
    if word == "exit":
        raise SystemExit(3)
    if word == "end":
        os._exit(9)
    if word == "crash":
        import ctypes
        ctypes.string_at(0)
    if word == "block":
        time.sleep(1000)
    if word == "spin":
        while True:
            pass
    if word == "slow":
        time.sleep(0.4)
    if word == "leak":
        globals().setdefault("kept", []).append(bytearray(80 << 20))
    if word == "model":
        import json
        return json.dumps(model), "application/json"
    if word == "big":
        return b"x" * 3_000_000, "application/octet-stream"
    return word.upper() + str(len(data) if len(data) > 100 else ""), "text/plain"
"""


def say(lives: Lives, word: str) -> tuple[int, str]:
    status, body, _ = lives.ask(word.encode(), content_type="text/csv")
    return status, body.decode()


def gone(pid: int) -> bool:
    try:
        psutil.Process(pid).wait(10)
    except psutil.NoSuchProcess:
        return True
    return not psutil.pid_exists(pid)


def test_a_script_lives_where_the_container_has_it(serve: Serve, tmp_path: Path) -> None:
    with serve(ECHO) as lives:
        status, body = say(lives, "model")
        found = json.loads(body)
        assert status == 200
        assert found["model_dir"] == found["cwd"] == found["sm"] == str(tmp_path / "model")
        assert found["pid"] == lives.pid != os.getpid()
        assert say(lives, "hello") == (200, "HELLO")
        status, large, headers = lives.ask(b"big", content_type="text/csv")
        assert (status, len(large), headers["content-type"]) == (200, 3_000_000, "application/octet-stream")
        status, large, _ = lives.ask(b"y" * 5_000_000, content_type="application/octet-stream")
        assert (status, large[-7:]) == (200, b"5000000")
        assert lives.ask(method="GET", path="/ping")[0] == 200
        pid = lives.pid
    assert gone(pid)


@pytest.mark.parametrize(
    ("word", "said"),
    [("raise", "ValueError: no such word (inference.py, line "), ("exit", "SystemExit: 3 (inference.py, line ")],
)
def test_what_a_handler_raises_is_500_with_its_place(serve: Serve, word: str, said: str, capfd: Capture) -> None:
    with serve(ECHO) as lives:
        pid = lives.pid
        status, body = say(lives, word)
        assert status == 500
        assert said in json.loads(body)["error"]["message"]
        assert say(lives, "hello") == (200, "HELLO")
        assert lives.pid == pid
        status, told, headers = lives.ask(word.encode(), path="/endpoints/lamp/invocations", content_type="text/csv")
        assert (status, headers["x-amzn-errortype"]) == (424, "ModelError")
        assert json.loads(told)["OriginalStatusCode"] == 500
    assert "Traceback" in capfd.readouterr().out


@pytest.mark.parametrize(("word", "how"), [("end", "with exit code 9"), ("crash", "killed by SIGSEGV")])
def test_a_process_that_ends_costs_its_own_request_alone(serve: Serve, word: str, how: str) -> None:
    with serve(ECHO) as lives:
        pid = lives.pid
        answers: dict[str, tuple[int, str]] = {}
        threads = [
            threading.Thread(target=lambda w=each: answers.update({w: say(lives, w)})) for each in ("slow", word)
        ]
        later = [threading.Thread(target=lambda w=each: answers.update({w: say(lives, w)})) for each in ("a", "b", "c")]
        until = time.monotonic() + 10
        for count, thread in enumerate((*threads, *later)):
            thread.start()
            while lives.service.waiting < count or not lives.service.longest:  # one after the other into the queue
                assert time.monotonic() < until
        for thread in (*threads, *later):
            thread.join(30)
        assert answers["slow"] == (200, "SLOW")
        assert answers[word][0] == 500
        assert how in answers[word][1]
        assert [answers[each] for each in "abc"] == [(200, "A"), (200, "B"), (200, "C")]
        assert lives.pid != pid
        assert gone(pid)


@pytest.mark.parametrize("word", ["block", "spin"])
def test_a_handler_that_blocks_is_ended_at_the_deadline(serve: Serve, word: str, capfd: Capture) -> None:
    with serve(ECHO, answer_seconds=1.0) as lives:
        pid = lives.pid
        assert say(lives, word)[0] == 504
        until = time.monotonic() + 20
        while say(lives, "hello") != (200, "HELLO"):
            assert time.monotonic() < until
        assert lives.pid != pid
        assert gone(pid)
    assert "in transform_fn" in capfd.readouterr().err  # where it stood


def test_a_caller_who_gives_up_does_not_stop_the_handler(serve: Serve) -> None:
    with serve(ECHO) as lives:
        pid = lives.pid
        assert lives.ask(b"slow", content_type="text/csv", x_deadline_ms="100")[0] == 504
        assert say(lives, "hello") == (200, "HELLO")
        assert lives.pid == pid


def test_one_at_a_time_in_the_order_of_arrival_and_a_full_queue(serve: Serve) -> None:
    with serve(ECHO, queue=2) as lives:
        answers: list[int] = []
        threads = [threading.Thread(target=lambda: answers.append(say(lives, "slow")[0])) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(answers) == [200] * 3 + [429] * 3


def test_a_leak_is_replaced_without_a_lost_request(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from houndsight.serving import handlers, handlers_process

    monkeypatch.setattr(handlers_process, "LEAST_ROOM", 100 << 20)
    monkeypatch.setattr(handlers_process, "FREE_SHARE", 10**9)
    monkeypatch.setattr(handlers, "MEMORY_SECONDS", 0.0)
    with serve(ECHO) as lives:
        first = lives.pid
        seen: set[int] = set()
        until = time.monotonic() + 30
        while len(seen) < 3:
            assert say(lives, "leak") == (200, "LEAK")
            seen.add(lives.pid)
            assert time.monotonic() < until
        assert gone(first)


def test_a_model_that_cannot_be_loaded_answers_ping_and_says_why(serve: Serve, capfd: Capture) -> None:
    with serve("def model_fn(model_dir):\n    return open(model_dir + '/absent.pth')\n") as lives:
        assert lives.ask(method="GET", path="/ping")[0] == 200
        for _ in range(2):
            status, body = say(lives, "hello")
            assert status == 500
            assert "absent.pth" in json.loads(body)["error"]["message"]
            assert "(inference.py, line 2, in model_fn)" in json.loads(body)["error"]["message"]
        assert "absent.pth" in json.loads(lives.ask(method="GET", path="/load")[1])["problem"]
    assert "Traceback" in capfd.readouterr().out


def test_a_model_that_ends_its_process(serve: Serve) -> None:
    with serve("import os\ndef model_fn(model_dir):\n    os._exit(4)\n") as lives:
        assert lives.ask(method="GET", path="/ping")[0] == 200
        status, body = say(lives, "hello")
        assert status == 500
        assert "with exit code 4" in body


def test_a_model_that_loaded_once_is_tried_again(serve: Serve, tmp_path: Path) -> None:
    code = ECHO.replace('print("loaded", flush=True)', "open(model_dir + '/there')")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "there").touch()
    with serve(code) as lives:
        (tmp_path / "model" / "there").unlink()
        assert say(lives, "end")[0] == 500
        until = time.monotonic() + 20
        while "No such file" not in say(lives, "hello")[1]:
            assert time.monotonic() < until
        (tmp_path / "model" / "there").touch()
        while say(lives, "hello") != (200, "HELLO"):
            assert time.monotonic() < until


def test_draining_finishes_what_was_asked_and_leaves_no_process(serve: Serve) -> None:
    with serve(ECHO) as lives:
        pid = lives.pid
        found: list[tuple[int, str]] = []
        asking = threading.Thread(target=lambda: found.append(say(lives, "slow")))
        asking.start()
        until = time.monotonic() + 10
        while not lives.service.longest:
            assert time.monotonic() < until
        lives.drain()
        asking.join(10)
        assert found == [(200, "SLOW")]
    assert gone(pid)


@pytest.mark.skipif(bool(private.impossible()), reason=f"no namespaces: {private.impossible()}")
def test_the_model_at_its_place_in_the_container(serve: Serve) -> None:
    code = """
import os
def model_fn(model_dir):
    os.environ["AWS_ENDPOINT_URL_S3"]
    return open("/opt/ml/model/code/inference.py").read()
def transform_fn(model, data, content_type, accept):
    return f"{len(model)} {os.path.samefile('/opt/ml/model', os.environ['SM_MODEL_DIR'])}", "text/plain"
"""
    told = {"private": True, "variables": {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}}
    with serve(code, told) as lives:
        assert say(lives, "x") == (200, f"{len(code)} True")
    assert not Path("/opt/ml/model/code/inference.py").exists()
