"""Preparing a model, and real instances of it: checked, cached, refused; started alone and from the nursery; ended."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from houndsight.errors import ModelError
from houndsight.models import artifact
from houndsight.models.network import build
from houndsight.results import ModelCard
from houndsight.serving.nursery import Nursery
from houndsight.serving.predictor import Predictor
from houndsight.serving.prepare import prepare
from houndsight.serving.prepared import Prepared
from houndsight.spec import ClassifierSpec

from .light import picture

ONE = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small trained-like model in `job/`."""
    folder = tmp_path_factory.mktemp("prepare")
    network = build(ClassifierSpec(data="x", weights="none", image_size=48, backbone="squeezenet1_1"), 3).network
    card = ModelCard(classes=("a", "b", "c"), preprocess=network.preprocess, backbone="x", temperature=0.5)
    samples = np.random.default_rng(1).integers(0, 256, (12, 48, 48, 3), dtype=np.uint8)
    artifact.save(folder / "job" / "model", network, card, samples)
    return folder


@pytest.fixture(scope="module")
def prepared(place: Path) -> Path:
    return prepare(place / "job", place / "cache", "openvino-f32")


def test_what_was_found_stands_in_the_folder_and_beside_the_artifact(place: Path, prepared: Path) -> None:
    found = Prepared.read(prepared / "prepared.json")
    assert found.runtime == "openvino-f32"
    assert found.chosen.agreement == 1.0
    assert found.chosen.difference < 1e-4
    assert found.chosen.images == 12
    assert found.chosen.cpu_ms[1] > 0
    assert 1 in found.sizes
    assert Prepared.read(place / "job" / "model" / "runtime.json") == found
    assert list((prepared / "blobs").iterdir())
    assert artifact.load(place / "job").card.classes == ("a", "b", "c")


def test_it_answers_as_eager_does_in_any_batch(place: Path, prepared: Path) -> None:
    eager, compiled = Predictor.load(place / "job"), Predictor.open(prepared, threads=1)
    batch = np.random.default_rng(2).integers(0, 256, (11, 48, 48, 3), dtype=np.uint8)
    for size in (1, 2, 3, 11):
        np.testing.assert_allclose(compiled.predict(batch[:size]), eager.predict(batch[:size]), atol=1e-4)
    assert (compiled.runtime, eager.runtime) == ("openvino-f32", "eager")


@pytest.mark.slow
def test_auto_takes_what_agrees(place: Path) -> None:
    found = Prepared.read(prepare(place / "job", place / "cache") / "prepared.json")
    assert not found.chosen.refused
    assert found.chosen.agreement >= 0.95


@pytest.mark.slow
def test_a_runtime_below_the_threshold_is_refused(place: Path) -> None:
    with pytest.raises(ModelError, match=r"openvino-f32' is refused: .* names another class"):
        prepare(place / "job", place / "cache", "openvino-f32", min_agreement=1.1)
    eager = Prepared.read(prepare(place / "job", place / "cache", "auto", min_agreement=1.1) / "prepared.json")
    assert eager.runtime == "eager"
    assert all(each.refused for each in eager.candidates if each.runtime != "eager")
    assert not [each for each in (place / "cache" / "serving").iterdir() if each.name.startswith(".")]


@pytest.mark.slow
def test_what_cannot_be_compiled_here_is_refused_with_its_reason(place: Path) -> None:
    """A processor that is said to know nothing beyond AVX2 has no bfloat16 max-pooling in OpenVINO."""
    code = (
        "from pathlib import Path; from houndsight.serving import prepare; from houndsight.models import runtime\n"
        "runtime.cpu_has_bfloat16 = lambda: True\n"
        f"folder = prepare.prepare(Path({str(place / 'job')!r}), Path({str(place / 'other')!r}))\n"
        "print((folder / 'prepared.json').read_text())"
    )
    told = {**ONE, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=told)
    found = Prepared.model_validate_json(done.stdout)
    first, *others = found.candidates
    assert first.runtime == "openvino-bf16"
    assert "does not run on this machine" in first.refused or first.agreement > 0
    assert found.runtime in {each.runtime for each in (first, *others) if not each.refused}


def test_eager_serves_where_nothing_else_agrees(place: Path) -> None:
    folder = prepare(place / "job", place / "cache", "eager")
    batch = np.random.default_rng(3).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    expected = Predictor.load(place / "job").predict(batch)
    np.testing.assert_allclose(Predictor.open(folder).predict(batch), expected, atol=1e-6)


def test_requests_that_cannot_be_met(place: Path) -> None:
    with pytest.raises(ModelError, match="Did you mean 'openvino-bf16'"):
        prepare(place / "job", place / "cache", "openvino-bf")
    with pytest.raises(ModelError, match="does not exist"):
        prepare(place / "nowhere", place / "cache")
    with pytest.raises(ModelError, match="is not a prepared model"):
        Predictor.open(place / "job")


def test_a_swapped_network_is_noticed_by_the_instance(place: Path, prepared: Path, tmp_path: Path) -> None:
    for file in ("prepared.json", "model.json", "float.xml", "float.bin"):
        (tmp_path / file).write_bytes((prepared / file).read_bytes())
    stored = dict(np.load(prepared / "samples.npz"))
    np.savez(tmp_path / "samples.npz", images=stored["images"], logits=stored["logits"][:, ::-1] * 3 + [5, 0, -5])
    with pytest.raises(ModelError, match="answers its own images otherwise"):
        Predictor.open(tmp_path)


def test_a_second_time_needs_no_torch(place: Path, prepared: Path) -> None:
    code = (
        "import sys; from houndsight.serving.prepare import main\n"
        f"sys.argv[1:] = [{str(place / 'job')!r}, '--cache', {str(place / 'cache')!r}, '--runtime', 'openvino-f32']\n"
        "try: main()\nexcept SystemExit as end: assert end.code == 0, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ONE)
    assert json.loads(done.stdout)["folder"] == str(prepared)


# ----------------------------------------------------------------------------------------- instances


def settings(prepared: Path, folder: Path, **more: Any) -> Path:
    file = folder / "settings.json"
    file.write_text(json.dumps({"model": str(prepared), "threads": 1, "metrics": str(folder / "metrics"), **more}))
    return file


def arguments(file: Path, *listen: str, slot: int = 0) -> list[str]:
    places = [word for where in listen for word in ("--listen", where)]
    return ["--name", "dogs", "--variant", "A", "--settings", str(file), "--slot", str(slot), *places]


def post(port: int, body: bytes) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST", "/invocations", body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as made:
        yield made


@pytest.mark.slow
def test_one_instance_from_start_to_sigterm_under_load(prepared: Path, tmp_path: Path, listener: socket.socket) -> None:
    """Everybody who was accepted has an answer; the exit code is 0; the supervisor hears when it is ready."""
    ours, theirs = socket.socketpair()
    command = [
        sys.executable,
        "-m",
        "houndsight.serving.instance",
        *arguments(settings(prepared, tmp_path), f"fd:{listener.fileno()}"),
    ]
    with ours, theirs:
        process = subprocess.Popen(
            [*command, "--link", str(theirs.fileno())], pass_fds=(listener.fileno(), theirs.fileno()), env=ONE
        )
        theirs.close()
        try:
            with ours.makefile("rb") as said:
                events = [json.loads(said.readline()) for _ in range(2)]
            assert "ready" in {event["event"] for event in events}
            port = listener.getsockname()[1]
            stop, answers, lost = threading.Event(), [], []

            def caller() -> None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                while not stop.is_set():
                    try:
                        connection.request("POST", "/invocations", picture())
                        answer = connection.getresponse()
                        answer.read()
                        answers.append(answer.status)
                        if answer.will_close:
                            stop.set()
                    except OSError as error:
                        lost.append(error)
                        return
                connection.close()

            threads = [threading.Thread(target=caller) for _ in range(4)]
            for thread in threads:
                thread.start()
            while len(answers) < 40:
                assert any(thread.is_alive() for thread in threads), lost
                threads[0].join(0.01)
            listener.close()
            process.send_signal(signal.SIGTERM)
            for thread in threads:
                thread.join(20)
            assert process.wait(20) == 0
            assert set(answers) == {200}
            assert not [error for error in lost if not isinstance(error, ConnectionRefusedError)]
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_the_nursery_bears_instances_that_share_a_port(prepared: Path, tmp_path: Path, listener: socket.socket) -> None:
    """Three are born, each answers its share; one is killed and told of; the others go when the line is closed."""

    async def scene() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Queue[tuple[int, int]]()
        nursery = await Nursery.start("dogs")
        nursery.ended = lambda pid, code: ended.put_nowait((pid, code))
        born: dict[int, socket.socket] = {}
        try:
            for slot in range(3):
                ours, theirs = socket.socketpair()
                ours.setblocking(False)
                with theirs:
                    given = arguments(settings(prepared, tmp_path), f"fd:{listener.fileno()}", slot=slot)
                    pid = await nursery.fork(
                        [*given, "--link", str(theirs.fileno())], [listener.fileno(), theirs.fileno()]
                    )
                born[pid] = ours
                said = b""
                while b'"ready"' not in said:
                    said += await loop.sock_recv(ours, 4096)
            port = listener.getsockname()[1]
            found = await asyncio.gather(*(asyncio.to_thread(post, port, picture()) for _ in range(30)))
            assert {status for status, *_ in found} == {200}
            served = {int(headers["x-houndsight-instance"]) for *_, headers in found}
            assert served == set(born)
            first = next(iter(born))
            os.kill(first, signal.SIGKILL)
            assert await asyncio.wait_for(ended.get(), 10) == (first, -9)
            assert (await asyncio.to_thread(post, port, picture()))[0] == 200
            for line in born.values():
                line.close()
            gone = {await asyncio.wait_for(ended.get(), 10), await asyncio.wait_for(ended.get(), 10)}
            assert gone == {(pid, 0) for pid in born if pid != first}
        finally:
            nursery.close()
            for line in born.values():
                line.close()
        await nursery._process.wait()

    asyncio.run(scene())


def test_an_instance_says_why_it_cannot_begin(place: Path, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    command = [
        sys.executable,
        "-m",
        "houndsight.serving.instance",
        *arguments(settings(place, tmp_path), "127.0.0.1:0"),
    ]
    with ours, theirs:
        done = subprocess.run(
            [*command, "--link", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            env=ONE,
            capture_output=True,
            check=False,
        )
        said = json.loads(ours.recv(65536))
    assert done.returncode == 1
    assert said["event"] == "failed"
    assert "is not a prepared model" in said["error"]["message"]
    assert b"Traceback" not in done.stdout + done.stderr
