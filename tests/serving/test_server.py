"""Connections that misbehave, and the way out: slow, half-sent, huge, many; draining without losing an answer."""

import asyncio
import json
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from houndsight.serving.accept import Acceptor, Board
from houndsight.serving.client import Endpoint
from houndsight.serving.settings import Limits

from .light import picture, predictor, serving
from .test_app import Gate

QUICK = Limits(read_seconds=0.4)


def request(body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [
        "POST /invocations HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def rest(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    blocks = []
    try:
        while block := connection.recv(65536):
            blocks.append(block)
    except ConnectionResetError:
        pass
    return b"".join(blocks)


def one(connection: socket.socket) -> bytes:
    """One answer on a connection that stays."""
    text = b""
    while b"\r\n\r\n" not in text:
        block = connection.recv(65536)
        assert block, text
        text += block
    head, _, body = text.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize("sent", [b"POST /invo", request(b"", length=10)[:-4], request(b"half", length=1000)],
                         ids=["line", "head", "body"])  # fmt: skip
def test_half_sent_requests_are_cut(sent: bytes) -> None:
    with serving(limits=QUICK) as lamp, lamp.connect() as connection:
        connection.sendall(sent)
        start = time.monotonic()
        assert rest(connection).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - start < 5


def test_a_byte_now_and_then_does_not_help() -> None:
    with serving(limits=QUICK) as lamp, lamp.connect() as connection:
        whole = request(picture())
        cut = threading.Event()

        def drip() -> None:
            for place in range(len(whole)):
                if cut.wait(0.03):
                    return
                try:
                    connection.send(whole[place : place + 1])
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        answer = rest(connection)  # nothing where a byte crossed the answer: the kernel resets the connection then
        assert answer.startswith(b"HTTP/1.1 408") or not answer
        cut.set()
        thread.join()
        assert lamp.ask(picture())[0] == 200


def test_a_connection_that_says_nothing_is_closed() -> None:
    with serving(limits=QUICK) as lamp, lamp.connect() as connection:
        assert rest(connection) == b""


@pytest.mark.parametrize(
    "sent",
    [b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 15_000,
     b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000],
    ids=["line", "many", "long"],
)  # fmt: skip
def test_huge_heads_are_refused(sent: bytes) -> None:
    with serving() as lamp, lamp.connect() as connection:
        for at in range(0, len(sent), 8192):
            try:
                connection.sendall(sent[at : at + 8192])
            except OSError:
                break
        answer = rest(connection)
        assert answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400")) or not answer


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00", b"rubbish\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 100,
                                  b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                                  b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http(sent: bytes) -> None:
    with serving(limits=QUICK) as lamp:
        with lamp.connect() as connection:
            connection.sendall(sent)
            assert rest(connection)[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 408 ", b"HTTP/1.1 200 ", b"")
        assert lamp.ask(picture())[0] == 200


def test_there_are_no_websockets() -> None:
    with serving(limits=QUICK) as lamp, lamp.connect() as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        assert one(connection).startswith(b"HTTP/1.1 200")


def test_too_large_is_answered_though_the_caller_sends_on() -> None:
    with serving(limits=Limits(body_bytes=10_000)) as lamp, lamp.connect() as connection:
        connection.sendall(request(b"x" * 3_000_000))
        assert one(connection).startswith(b"HTTP/1.1 413")
        connection.sendall(request(picture()))
        assert one(connection).startswith(b"HTTP/1.1 200")


def test_chunked_bodies_count_too() -> None:
    with serving(limits=Limits(body_bytes=10_000)) as lamp, lamp.connect() as connection:
        head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        image = picture()
        connection.sendall(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(image), image))
        assert one(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(head + b"2000\r\n%b\r\n" % bytes(8192) * 1)
        connection.sendall(b"2000\r\n%b\r\n0\r\n\r\n" % bytes(8192))
        assert one(connection).startswith(b"HTTP/1.1 413")


def test_a_body_of_gigabytes_is_not_waited_for() -> None:
    with serving() as lamp, lamp.connect() as connection:
        connection.sendall(request(b"", length=10**12))
        assert one(connection).startswith(b"HTTP/1.1 413")


def test_pipelined_requests_are_answered_in_order() -> None:
    with serving() as lamp, lamp.connect() as connection:
        connection.sendall(request(picture(0)) + request(picture(255)) + request(b"rubbish", "Connection: close"))
        text = rest(connection)
        assert text.count(b"HTTP/1.1 200") == 2
        assert text.index(b'"dark"') < text.index(b"HTTP/1.1 400")
        assert lamp.server.board.active == 0


def test_a_reset_in_the_middle_is_forgotten() -> None:
    with serving() as lamp:
        for sent in (b"POST", request(picture()), request(b"half", length=1000), request(picture()) * 3):
            connection = lamp.connect()
            connection.sendall(sent)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        assert lamp.ask(picture())[0] == 200
        while lamp.server.board.connections:
            time.sleep(0.001)
        assert lamp.server.board.active == 0


def test_more_connections_than_are_allowed_wait_their_turn() -> None:
    with serving(limits=Limits(connections=4)) as lamp, ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: lamp.ask(picture())[0], range(48)))
        assert answers == [200] * 48


@pytest.mark.slow
def test_a_thousand_connections() -> None:
    with serving() as lamp:
        connections = [lamp.connect() for _ in range(1000)]
        for connection in connections:
            connection.sendall(request(picture()))
        assert all(one(connection).startswith((b"HTTP/1.1 200", b"HTTP/1.1 429")) for connection in connections)
        for connection in connections:
            connection.close()
        assert lamp.ask(picture())[0] == 200


# ------------------------------------------------------------------------------------------- draining


def test_draining_answers_what_was_accepted() -> None:
    gate = Gate()
    with serving(predictor(gate), threads=1) as lamp, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(lamp.ask, picture())]
        assert gate.inside.wait(10)
        futures += [pool.submit(lamp.ask, picture()) for _ in range(4)]
        while lamp.server.app.service.waiting < 4:
            time.sleep(0.001)
        lamp.drain()
        while lamp.server.board.accepting:
            time.sleep(0.001)
        gate.go.set()
        answers = [future.result() for future in futures]
        assert [status for status, *_ in answers] == [200] * 5
        assert lamp.done.wait(10)
        with pytest.raises(OSError, match="refused"):
            lamp.connect()


def test_a_kept_connection_gets_its_answer_and_is_told_to_close() -> None:
    with serving() as lamp, lamp.connect() as connection:
        connection.sendall(request(picture()))
        assert b"connection: close" not in one(connection)
        lamp.drain()
        while lamp.server.board.accepting:
            time.sleep(0.001)
        connection.sendall(request(picture()))
        text = rest(connection)
        assert text.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in text
        assert lamp.done.wait(5)


def test_a_request_that_never_ends_is_given_up() -> None:
    gate = Gate()
    with serving(predictor(gate), threads=1, limits=Limits(drain_seconds=0.3)) as lamp, lamp.connect() as connection:
        connection.sendall(request(picture()))
        assert gate.inside.wait(10)
        lamp.drain()
        time.sleep(0.4)
        gate.go.set()
        assert lamp.done.wait(10)


# --------------------------------------------------------------------------------- sharing one socket


def test_the_freer_instance_accepts(tmp_path: Any) -> None:
    """Two instances, one listening socket, eight callers: four each, though one of them is always first to wake."""

    async def scene() -> list[int]:
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        boards = [Board(tmp_path / "board", slot) for slot in range(2)]
        acceptors = []
        for board in boards:
            board.accepting = 1
            board.write()
            mine = socket.socket(fileno=socket.dup(listener.fileno()))
            acceptors.append(Acceptor(mine, board, 100, asyncio.Protocol, fair=True))
        callers = []
        for _ in range(8):
            callers.append(await asyncio.open_connection(*listener.getsockname()[:2]))
            while sum(board.connections for board in boards) < len(callers):
                await asyncio.sleep(0.001)
        counts = [board.connections for board in boards]
        boards[0].clear()
        assert [row["slot"] for row in boards[1].everybody()] == [1]
        for _, writer in callers:
            writer.close()
        for acceptor in acceptors:
            acceptor.close()
        listener.close()
        return counts

    assert asyncio.run(scene()) == [4, 4]


# --------------------------------------------------------------------------------------------- client


def test_the_client() -> None:
    with serving() as lamp:
        endpoint = Endpoint(f"http://127.0.0.1:{lamp.port}")
        assert endpoint.ready()
        assert endpoint.predict(picture())[0]["class"] == "light"
        many = endpoint.predict_many([picture(0), b"broken"])
        assert many[0]["predictions"][0]["class"] == "dark"
        assert "error" in many[1]
        assert endpoint.load()["endpoint"] == "lamp"
        with ThreadPoolExecutor(4) as pool:
            assert {rows[0]["class"] for rows in pool.map(lambda _: endpoint.predict(picture()), range(20))} == {
                "light"
            }
        assert json.loads(lamp.ask(path="/load", method="GET")[1])["instances"][0]["requests"] >= 22
        endpoint.close()
    assert not endpoint.ready()


def test_the_client_outlives_an_update() -> None:
    """The old instance closes the kept connection; the next request opens another, and no answer is lost."""
    with serving() as lamp:
        endpoint = Endpoint(f"127.0.0.1:{lamp.port}")
        endpoint.predict(picture())
        endpoint._kept[0].sock.shutdown(socket.SHUT_RDWR)
        assert endpoint.predict(picture())[0]["class"] == "light"
        endpoint.close()


def test_who_asks_first_is_refused_before_sending() -> None:
    with serving(limits=Limits(body_bytes=10_000)) as lamp, lamp.connect() as connection:
        connection.sendall(request(b"", "Expect: 100-continue", length=20_000))
        assert one(connection).startswith(b"HTTP/1.1 413")
    with serving() as lamp, lamp.connect() as connection:
        image = picture()
        connection.sendall(request(b"", "Expect: 100-continue", length=len(image)))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(image)
        assert one(connection).startswith(b"HTTP/1.1 200")
