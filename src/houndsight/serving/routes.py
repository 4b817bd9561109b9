"""Which variant answers a request, and how it gets there when that is not the instance which accepted it.

All instances of an endpoint accept on one socket, whatever they serve. With one variant nothing is passed on; with
several, weights are kept request by request (keep-alive connections would spoil them otherwise), and a request for
another variant goes over a unix socket to one of its instances: no process stands in between, so there is none to fail.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from houndsight.errors import HoundsightError

IDLE_SECONDS = 2.0
"""Idle connections to another instance are dropped after this, well before that instance would close them."""
ANSWER_SECONDS = 70.0
"""Longest wait for another instance: SageMaker's 60 s and a little, so that its own 504 comes first."""
_HEAD_BYTES = 65536
_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)

Headers = Sequence[tuple[bytes, bytes]]


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
    """One model of a variant as the instances see it; an update has two of the same variant."""

    variant: str
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
    """The present table of models; an order replaces it, requests under way end by the old one.

    `order` takes what the supervisor says, `forward` is what `app.build_app` asks before it answers.
    """

    me: str = ""
    """The model that this instance serves."""
    table: dict[str, Route] = field(default_factory=dict)
    """Empty where there is but one: nothing is passed on then."""
    variants: tuple[str, ...] = ()
    """Names of all variants, also where there is but one."""
    missed: int = 0
    """Requests that were answered here because nobody of their model could be reached."""
    _idle: dict[str, deque[_Idle]] = field(default_factory=dict)

    def order(self, order: dict[str, Any]) -> None:
        """Take over `{"do": "routes", "me", "variants", "table": {model: {"variant", "weight", "peers"}}}`."""
        if order.get("do") != "routes":
            return
        self.me, self.variants = order["me"], tuple(order["variants"])
        total = sum(each["weight"] for each in order["table"].values())
        before = {name: (route.variant, route.weight, route.peers) for name, route in self.table.items()}
        after = {name: (each["variant"], each["weight"], tuple(each["peers"])) for name, each in order["table"].items()}
        if before == after:
            return
        # Instances begin at different places, or the first requests of each would all go to the heaviest model.
        self.table = {name: Route(*each, credit=random.uniform(0, total)) for name, each in after.items()}
        known = {peer for route in self.table.values() for peer in route.peers}
        for peer in [peer for peer in self._idle if peer not in known]:
            for each in self._idle.pop(peer):
                each.writer.close()

    async def forward(self, target: str | None, line: bytes, headers: Headers, body: bytes) -> "Answer | None":
        """Another instance's answer, or None where this one is to answer; `target` is the variant the caller named.

        Raises `RequestRefusedError`: 400 for a variant that is not there, 503 where it was to be that one and nobody
        of it can be reached, or it gave no answer.
        """
        if target is not None and target not in self.variants:
            known = ", ".join(self.variants)
            raise _refused(400, f"There is no variant '{target[:80]}'.", f"There are: {known}.")
        if not self.table:
            return None
        chosen = self.choose(target)
        if chosen == self.me:
            return None
        try:
            return await self.ask(chosen, line, headers, body)
        except Unreachable:
            if target is None or self.table[self.me].variant == target:
                self.missed += 1
                return None
            raise _refused(503, f"No instance of the variant '{target}' can be reached now.") from None
        except Broken as error:
            raise _refused(503, f"The instance that was to answer went away: {error}.") from error

    def choose(self, variant: str | None = None) -> str:
        """The model whose turn it is, of that variant or of all (smooth weighted round robin: exact shares).

        A variant without weight is still there for those who name it.
        """
        among = {name: route for name, route in self.table.items() if variant in (None, route.variant)}
        weighted = {name: route for name, route in among.items() if route.weight > 0}
        return self._turn(weighted) if weighted else next(iter(among), self.me)

    @staticmethod
    def _turn(routes: dict[str, Route]) -> str:
        for route in routes.values():
            route.credit += route.weight
        best = max(routes, key=lambda name: routes[name].credit)
        routes[best].credit -= sum(route.weight for route in routes.values())
        return best

    async def ask(self, model: str, line: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Answer:
        """Pass a request on to an instance of `model`; `line` is its request line.

        Raises `Unreachable` where nobody took it, and `Broken` where somebody did and gave no answer: that is never
        tried again, because a request that kills one instance would kill the next.
        """
        route = self.table[model]
        message = _message(line, headers, body)
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
        raise Unreachable(model)

    async def _connection(self, peer: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        idle = self._idle.get(peer, deque())
        while idle:
            each = idle.pop()
            if time.monotonic() - each.since < IDLE_SECONDS and not each.reader.at_eof():
                return each.reader, each.writer
            each.writer.close()
        return await asyncio.open_unix_connection(peer, limit=_HEAD_BYTES)


def _refused(status: int, message: str, repair: str = "") -> HoundsightError:
    from houndsight.serving.requests import RequestRefusedError  # here: the supervisor needs none of what comes along

    return RequestRefusedError(status, message, repair)


async def request(peer: str, line: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> Answer:
    """One request over a unix socket, on a connection of its own; raises `Unreachable` or `Broken`."""
    try:
        reader, writer = await asyncio.open_unix_connection(peer, limit=_HEAD_BYTES)
    except OSError as error:
        raise Unreachable(f"{error.strerror}") from error
    answer, _ = await _exchange(reader, writer, _message(line, headers, body))
    writer.close()
    return answer


def _message(line: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    lines = [b"%b: %b\r\n" % pair for pair in headers if pair[0] not in _HOP and pair[0] != b"content-length"]
    return b"%b\r\n%bcontent-length: %d\r\n\r\n%b" % (line, b"".join(lines), len(body), body)


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
    found: dict[bytes, bytes] = dict(headers)
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
