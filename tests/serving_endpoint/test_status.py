"""What an endpoint is said to be, by its files, its lock and its control socket; no instance is started."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import houndsight
from houndsight.cli.app import run
from houndsight.errors import JobError, ModelError, RequestError, SpecError, WorkspaceError
from houndsight.folders import EndpointFolder
from houndsight.serving import control, counters
from houndsight.serving.endpoint import EndpointSpec, EndpointStatus, Variant, held, lives, status
from houndsight.workspace import Workspace, write_json

VARIANT = Variant(model="m", revision="r")


@pytest.fixture
def folder(workspace: Workspace) -> EndpointFolder:
    """An endpoint that somebody made."""
    spec = EndpointSpec(variants=(VARIANT,), port=8080)
    return workspace.create_endpoint(spec, EndpointStatus(url="http://127.0.0.1:8080"), "e")


def started(folder: EndpointFolder) -> None:
    write_json(folder.status, status(folder).model_copy(update={"state": "InService", "pid": os.getpid()}))


def test_an_endpoint_is_alive_while_its_supervisor_holds_the_lock(folder: EndpointFolder) -> None:
    assert status(folder).state == "Creating"
    with held(folder):
        started(folder)
        assert lives(folder)
        assert status(folder).state == "InService"
    assert not lives(folder)
    assert status(folder).state == "Failed"
    assert "supervisor was killed" in EndpointStatus.read(folder.status).reason


def test_one_endpoint_has_one_supervisor_and_a_look_does_not_hinder_it(folder: EndpointFolder) -> None:
    with held(folder), pytest.raises(WorkspaceError, match="running already"), held(folder):
        pass
    looking = threading.Event()

    def look() -> None:
        with held(folder):
            looking.set()
            threading.Event().wait(0.2)

    thread = threading.Thread(target=look)
    thread.start()
    assert looking.wait(5)
    with held(folder, patience=5.0):
        pass
    thread.join()


@contextmanager
def supervisor(folder: EndpointFolder, handle: control.Handle) -> Iterator[None]:
    """Answers orders in a thread of its own, from the endpoint's folder as a supervisor does."""
    ready, over = threading.Event(), threading.Event()
    before = Path.cwd()
    os.chdir(folder.path)

    async def serve() -> None:
        async with control.listening(folder, handle):
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        over.set()
        thread.join()
        os.chdir(before)


def test_an_order_is_answered_with_notes_and_a_result_or_the_error_itself(folder: EndpointFolder) -> None:
    async def handle(order: dict[str, Any], tell: control.Tell) -> dict[str, Any]:
        tell("half way")
        if order["do"] == "refuse":
            raise ModelError("It is broken.", "Copy it again.")
        if order["do"] == "stumble":
            raise ZeroDivisionError("by nought")
        return {"echo": order["value"]}

    notes: list[str] = []
    with supervisor(folder, handle):
        assert folder.control.stat().st_mode & 0o777 == 0o600
        assert control.ask(folder, {"do": "echo", "value": "é" * 100_000}, notes.append) == {"echo": "é" * 100_000}
        with pytest.raises(ModelError, match="It is broken"):
            control.ask(folder, {"do": "refuse"}, notes.append)
        with pytest.raises(JobError, match="ZeroDivisionError: by nought"):
            control.ask(folder, {"do": "stumble"}, notes.append)
    assert notes == ["half way"] * 3
    assert not folder.control.exists()


def test_a_workspace_deep_down_has_a_control_socket_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    folder = Workspace(deep).create_endpoint(EndpointSpec(variants=(VARIANT,)), EndpointStatus(), "e")

    async def handle(order: dict[str, Any], tell: control.Tell) -> dict[str, Any]:
        return order

    with supervisor(folder, handle):
        assert control.ask(folder, {"do": "echo"}) == {"do": "echo"}


def test_a_supervisor_that_is_not_there_or_silent_is_told_in_one_sentence(
    folder: EndpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobError, match="cannot be reached"):
        control.ask(folder, {"do": "describe"})
    monkeypatch.setattr(control, "PATIENCE", 0.3)
    answer = threading.Event()

    async def handle(order: dict[str, Any], tell: control.Tell) -> dict[str, Any]:
        await asyncio.to_thread(answer.wait)
        return {}

    with supervisor(folder, handle):
        with pytest.raises(JobError, match="is silent"):
            control.ask(folder, {"do": "describe"})
        answer.set()


def test_wrong_requests_are_refused_in_words(
    folder: EndpointFolder, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WorkspaceError, match="There is no endpoint 'f'"):
        houndsight.open_endpoint("f")
    with pytest.raises(RequestError, match="has failed"):
        houndsight.invoke("e", "picture.jpg")
    of = houndsight.open_endpoint("e")
    with pytest.raises(SpecError, match="Nothing is to be changed"):
        of.update()
    with pytest.raises(SpecError, match="A canary is a new model"):
        of.update(instances=2, canary=0.1)
    for words in ("update e m --canary lots", "update e --variants a=1,a=2", "update e --variants a", "invoke e"):
        assert run(words.split()) == 2
        assert capsys.readouterr().err.startswith("houndsight: ")
    with pytest.raises(SpecError, match="one weight at least"):
        EndpointSpec.create(variants=(VARIANT.model_copy(update={"weight": 0.0}),))
    with pytest.raises(SpecError, match="every name may be used once"):
        EndpointSpec.create(variants=(VARIANT, VARIANT))
    assert run(["endpoints", "--json"]) == 0
    assert '"endpoint": "e"' in capsys.readouterr().out
    of.delete()
    assert run(["endpoints"]) == 0
    assert "No endpoints yet" in capsys.readouterr().out


def test_the_log_of_an_endpoint_is_shown_and_followed_to_its_end(
    folder: EndpointFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.log.write_text("first\nlast")
    assert run(["logs", "e"]) == 0
    assert capsys.readouterr().out == "first\nlast\n"
    assert run(["logs", "e", "-f"]) == 0
    assert capsys.readouterr().out == "first\nlast\n"


def test_counters_of_ended_instances_are_kept_up_to_a_number(tmp_path: Path) -> None:
    for pid in range(1, 11):
        for kind in ("counter", "gauge_livesum"):
            file = tmp_path / f"{kind}_{pid}.db"
            file.write_bytes(b"")
            os.utime(file, (time.time() + pid, time.time() + pid))
    (tmp_path / "board").write_bytes(b"")
    counters.sweep(tmp_path, {1, 2}, kept=3)
    left = sorted({int(path.stem.rpartition("_")[2]) for path in tmp_path.glob("*.db")})
    assert left == [1, 2, 8, 9, 10]
    assert (tmp_path / "board").exists()
