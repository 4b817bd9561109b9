"""Which variant answers a request, and how it gets there when that is not the instance which accepted it.

All instances of an endpoint accept on one socket, whatever they serve. With one variant nothing is passed on; with
several, weights are kept request by request (keep-alive connections would spoil them otherwise), and a request for
another variant goes over a unix socket to one of its instances: no process stands in between, so there is none to fail.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

IDLE_SECONDS = 2.0
"""Idle connections to another instance are dropped after this, well before that instance would close them."""
ANSWER_SECONDS = 70.0
"""Longest wait for another instance: SageMaker's 60 s and a little, so that its own 504 comes first."""
_HEAD_BYTES = 65536
_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)

Headers = list[tuple[bytes, bytes]]


class Unreachable(Exception):  # noqa: N818  # it says what is so, and never leaves this folder
    """No instance of the variant took the connection; the request was not sent."""


class Broken(Exception):  # noqa: N818
    """The other instance went away, or was silent for too long, after the request had been sent."""


@dataclass(frozen=True)
class Answer:
    """What another instance answered."""

    status: int
    headers: Headers
    body: bytes


@dataclass
class Route:
    """One variant as the instances see it."""

    weight: float
    peers: tuple[str, ...]
    """Unix sockets of its ready instances."""
    credit: float = 0.0
    turn: int = 0


@dataclass
class _Idle:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    since: float


@dataclass
class Routes:
    """The present table of variants; `apply` replaces it, requests under way end by the old one."""

    table: dict[str, Route] = field(default_factory=dict)
    _idle: dict[str, deque[_Idle]] = field(default_factory=dict)

    def apply(self, variants: dict[str, dict[str, Any]]) -> None:
        """Take over `{variant: {"weight", "peers"}}` from the supervisor."""
        total = sum(each["weight"] for each in variants.values())
        # Instances begin at different places, or the first requests of each would all go to the heaviest variant.
        self.table = {
            name: Route(each["weight"], tuple(each["peers"]), credit=random.uniform(0, total))
            for name, each in variants.items()
        }
        known = {peer for route in self.table.values() for peer in route.peers}
        for peer in [peer for peer in self._idle if peer not in known]:
            for each in self._idle.pop(peer):
                each.writer.close()

    def choose(self) -> str | None:
        """The variant whose turn it is (smooth weighted round robin: exact shares); None where none has weight."""
        best, total = None, 0.0
        for name, route in self.table.items():
            if route.weight <= 0:
                continue
            total += route.weight
            route.credit += route.weight
            if best is None or route.credit > self.table[best].credit:
                best = name
        if best is not None:
            self.table[best].credit -= total
        return best

    async def ask(self, variant: str, head: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Answer:
        """Pass a request on to an instance of `variant`; `head` is its method and target, as in `POST /invocations`.

        Raises `Unreachable` where nobody took it, and `Broken` where somebody did and gave no answer: that is never
        tried again, because a request that kills one instance would kill the next.
        """
        route = self.table[variant]
        message = _message(head, headers, body)
        for _ in range(len(route.peers)):
            route.turn = (route.turn + 1) % len(route.peers)
            peer = route.peers[route.turn]
            try:
                reader, writer = await self._connection(peer)
            except OSError:
                continue
            answer, again = await _exchange(reader, writer, message)
            if again:
                self._idle.setdefault(peer, deque()).append(_Idle(reader, writer, time.monotonic()))
            else:
                writer.close()
            return answer
        raise Unreachable(variant)

    async def _connection(self, peer: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        idle = self._idle.get(peer, deque())
        while idle:
            each = idle.pop()
            if time.monotonic() - each.since < IDLE_SECONDS and not each.reader.at_eof():
                return each.reader, each.writer
            each.writer.close()
        return await asyncio.open_unix_connection(peer, limit=_HEAD_BYTES)


async def request(peer: str, head: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> Answer:
    """One request over a unix socket, on a connection of its own; raises `Unreachable` or `Broken`."""
    try:
        reader, writer = await asyncio.open_unix_connection(peer, limit=_HEAD_BYTES)
    except OSError as error:
        raise Unreachable(f"{error.strerror}") from error
    answer, _ = await _exchange(reader, writer, _message(head, headers, body))
    writer.close()
    return answer


def _message(head: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    lines = [b"%b: %b\r\n" % pair for pair in headers if pair[0] not in _HOP and pair[0] != b"content-length"]
    return b"%b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (head, b"".join(lines), len(body), body)


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes) -> tuple[Answer, bool]:
    try:
        writer.write(message)
        async with asyncio.timeout(ANSWER_SECONDS):
            return await _read(reader)
    except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
        writer.close()
        raise Broken(str(error) or type(error).__name__) from error
    except BaseException:  # the caller has gone: the answer to come belongs to nobody
        writer.close()
        raise


async def _read(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """One response of HTTP/1.1, and whether the connection takes another request."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    status = int(first.split(b" ", 2)[1])
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    found = dict(headers)
    again = found.get(b"connection", b"").lower() != b"close"
    if found.get(b"transfer-encoding", b"").lower() == b"chunked":
        body = await _chunks(reader)
    elif b"content-length" in found:
        body = await reader.readexactly(int(found[b"content-length"]))
    else:
        body, again = await reader.read(), False
    kept = [(name, value) for name, value in headers if name not in _HOP and name != b"content-length"]
    return Answer(status, [*kept, (b"content-length", b"%d" % len(body))], body), again


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(parts)
