"""Who answers a request where an endpoint has several models: exact shares, named variants, instances that are gone."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from houndsight.serving.requests import RequestRefusedError
from houndsight.serving.routes import Routes

LINE = b"POST /invocations HTTP/1.1"
HEADERS = [(b"host", b"x"), (b"connection", b"keep-alive"), (b"content-type", b"image/jpeg"), (b"content-length", b"9")]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """Unix sockets have short paths: the tests stand in their folder."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def routes(*models: tuple[str, str, float, list[str]], me: str = "a1") -> Routes:
    made = Routes()
    table = {name: {"variant": variant, "weight": weight, "peers": peers} for name, variant, weight, peers in models}
    made.order({"do": "routes", "me": me, "variants": sorted({model[1] for model in models}), "table": table})
    return made


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def instance(path: str, serve: Serve) -> AsyncIterator[None]:
    """Listens on a unix socket, and ends when all its callers have hung up."""
    callers = []

    async def kept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(asyncio.current_task())
        await serve(reader, writer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(kept, path)
    yield
    server.close()
    await asyncio.gather(*filter(None, callers))
    await asyncio.sleep(0)  # the other side takes note


def answering(text: bytes, seen: list[bytes]) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(65536):
            seen.append(head)
            writer.write(text)
            await writer.drain()

    return serve


def test_shares_are_exact_over_every_hundred_requests() -> None:
    of = routes(("a1", "a", 0.9, []), ("b1", "b", 0.1, []))
    chosen = [of.choose() for _ in range(1000)]
    for start in range(0, 1000, 100):
        assert abs(Counter(chosen[start : start + 100])["b1"] - 10) <= 1
    runs = "".join(each[0] for each in chosen).split("a")
    assert max(map(len, runs)) == 1


def test_a_variant_without_weight_answers_only_who_names_it() -> None:
    of = routes(("a1", "a", 1.0, []), ("b1", "b", 0.0, []))
    assert {of.choose() for _ in range(50)} == {"a1"}
    assert of.choose("b") == "b1"


def test_an_update_moves_a_named_variant_too() -> None:
    of = routes(("a1", "a", 0.0, []), ("a2", "a", 1.0, []))
    assert {of.choose("a") for _ in range(10)} == {"a2"}


def test_a_request_is_passed_on_whole_and_its_answer_comes_back_whole(here: Path) -> None:
    seen: list[bytes] = []
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-amzn-invoked-production-variant: b\r\n"
    reply = head + b"connection: keep-alive\r\n\r\nhi"

    async def scene() -> None:
        async with instance("1.sock", answering(reply, seen)):
            of = routes(("a1", "a", 0.0, []), ("b1", "b", 1.0, ["1.sock"]))
            for _ in range(3):
                answer = await of.forward(None, LINE, HEADERS, b"123456789")
                assert answer is not None
                assert (answer.status, answer.body) == (200, b"hi")
                assert (b"x-amzn-invoked-production-variant", b"b") in answer.headers
                assert dict(answer.headers)[b"content-length"] == b"2"
            of.order({"do": "routes", "me": "a1", "variants": ["a"], "table": {}})  # hangs up

    asyncio.run(scene())
    assert len(seen) == 3
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert body == b"123456789"
    assert head.split(b"\r\n")[0] == LINE
    assert head.lower().count(b"content-length") == 1
    assert b"connection" not in head.lower()


def test_chunked_answers_are_put_together(here: Path) -> None:
    reply = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"

    async def scene() -> None:
        async with instance("1.sock", answering(reply, [])):
            of = routes(("a1", "a", 0.0, []), ("b1", "b", 1.0, ["1.sock"]))
            answer = await of.forward(None, LINE, HEADERS, b"")
            assert answer is not None
            assert answer.body == b"abcde"
            assert b"transfer-encoding" not in dict(answer.headers)
            of.order({"do": "routes", "me": "a1", "variants": ["a"], "table": {}})

    asyncio.run(scene())


def test_one_variant_passes_nothing_on() -> None:
    async def scene() -> None:
        of = Routes()
        of.order({"do": "routes", "me": "a1", "variants": ["a"], "table": {}})
        assert await of.forward(None, LINE, HEADERS, b"") is None
        assert await of.forward("a", LINE, HEADERS, b"") is None
        with pytest.raises(RequestRefusedError, match="no variant 'b'") as refused:
            await of.forward("b", LINE, HEADERS, b"")
        assert refused.value.status == 400

    asyncio.run(scene())


def test_where_nobody_of_a_model_is_there_the_next_answers_but_never_for_one_who_named_it(here: Path) -> None:
    async def scene() -> None:
        of = routes(("a1", "a", 0.0, []), ("b1", "b", 1.0, ["gone.sock"]))
        assert await of.forward(None, LINE, HEADERS, b"") is None
        assert of.missed == 1
        with pytest.raises(RequestRefusedError, match="No instance of the variant 'b'") as refused:
            await of.forward("b", LINE, HEADERS, b"")
        assert refused.value.status == 503

    asyncio.run(scene())


def test_an_instance_that_goes_away_in_the_middle_is_an_error_and_no_second_try(here: Path) -> None:
    tried = 0

    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tried
        tried += 1
        await reader.read(65536)

    async def scene() -> None:
        async with instance("1.sock", dying), instance("2.sock", dying):
            of = routes(("a1", "a", 0.0, []), ("b1", "b", 1.0, ["1.sock", "2.sock"]))
            with pytest.raises(RequestRefusedError, match="went away") as refused:
                await of.forward(None, LINE, HEADERS, b"")
            assert refused.value.status == 503

    asyncio.run(scene())
    assert tried == 1


def test_a_dead_instance_is_passed_over_for_the_next_of_its_model(here: Path) -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

    async def scene() -> None:
        async with instance("2.sock", answering(reply, [])):
            of = routes(("a1", "a", 0.0, []), ("b1", "b", 1.0, ["1.sock", "2.sock"]))
            for _ in range(4):
                answer = await of.forward(None, LINE, HEADERS, b"x")
                assert answer is not None
                assert answer.status == 200

    asyncio.run(scene())
