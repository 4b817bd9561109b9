"""The endpoint's HTTP side: routes, limits, keys and errors around a `Service`; by Amazon's contracts.

GET  /                                    a page to try it
GET  /ping                                200 once warm
POST /invocations                         an image in, classes out
POST /endpoints/<name>/invocations        the same for boto3's sagemaker-runtime, errors as Amazon words them
GET  /metrics                             Prometheus
GET  /load                                what the page shows of the instances
"""

import gzip
import hmac
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from houndsight.errors import HoundsightError, JobError
from houndsight.serving import failures
from houndsight.serving.failures import NOT_HERE, Failure
from houndsight.serving.metrics import Metrics
from houndsight.serving.page import page
from houndsight.serving.requests import RequestRefusedError, gunzip
from houndsight.serving.service import Call, Reply, Service
from houndsight.serving.settings import Limits

log = logging.getLogger("houndsight")

DISCARD = 64 * 2**20
"""A body that is too large is read to its end up to here: a caller that is cut while sending never sees the answer."""
_GZIP_FROM = 1024  # bytes of an answer


class Passed(Protocol):
    """What another instance answered."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Headers, names in lower case, `content-length` among them."""
        ...

    @property
    def body(self) -> bytes:
        """The body."""
        ...


Forward = Callable[[str | None, bytes, Sequence[tuple[bytes, bytes]], bytes], Awaitable[Passed | None]]
"""(variant that the caller named, request line, headers, body) -> another instance's answer; None: answer it here.

Raises `RequestRefusedError` for a variant that is not there and for one that cannot be reached."""


@dataclass(frozen=True)
class Captured:
    """One request and its answer, for whoever keeps them."""

    body: bytes
    content_type: str
    answer: bytes
    """As it was before it was packed."""
    answer_type: str
    status: int
    variant: str
    inference_id: str
    seconds: float


@dataclass
class App:
    """What the routes need; one an instance."""

    service: Service
    name: str
    variant: str
    limits: Limits
    metrics: Metrics
    key: bytes | None = None
    """What callers have to send, if anything."""
    forward: Forward | None = None
    capture: Callable[[Captured], None] | None = None
    load: Callable[[], list[dict[str, Any]]] = field(default=list)
    """What each instance is doing."""
    draining: bool = False
    """No longer ready: /ping says so."""


def build_app(
    service: Service,
    *,
    name: str,
    variant: str,
    limits: Limits,
    metrics: Metrics | None = None,
    key: bytes | None = None,
    forward: Forward | None = None,
    capture: Callable[[Captured], None] | None = None,
    load: Callable[[], list[dict[str, Any]]] | None = None,
) -> Starlette:
    """The web application around `service`; `app.state.app` is its `App`."""
    app = App(
        service,
        name,
        variant,
        limits,
        metrics or Metrics(name, variant),
        key,
        forward,
        capture,
        load or (list),
    )
    routes = [
        Route("/invocations", _Invocation(app, amazon=False), methods=["POST"]),
        Route("/endpoints/{name}/invocations", _Invocation(app, amazon=True), methods=["POST"]),
        Route("/ping", lambda _: _ping(app)),
        Route("/metrics", lambda request: _metrics(app, request)),
        Route("/load", lambda request: _load(app, request)),
        Route("/", lambda _: HTMLResponse(page(name), headers=_PAGE_HEADERS)),
    ]
    starlette = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
    starlette.state.app = app
    return starlette


_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return failures.plain(Failure(error.status_code, "RequestError", NOT_HERE.get(error.status_code, error.detail)))


def _ping(app: App) -> Response:
    if app.draining:
        return failures.plain(Failure(503, "RequestError", "This instance is going away."))
    return Response(b"\n", media_type="application/json")


def _metrics(app: App, request: Request) -> Response:
    if not _knows_key(app, request):
        return failures.plain(failures.NO_KEY)
    app.metrics.queue(app.service.waiting)
    text, kind = app.metrics.text()
    return Response(text, headers={"content-type": kind})


def _load(app: App, request: Request) -> Response:
    if not _knows_key(app, request):
        return failures.plain(failures.NO_KEY)
    document = {
        "endpoint": app.name,
        "variant": app.variant,
        "problem": app.service.problem,
        "model": app.service.describe(),
        "instances": app.load(),
    }
    return JSONResponse(document)


def _knows_key(app: App, request: Request) -> bool:
    """`X-Api-Key`, `Authorization: Bearer`, or the access key id of a request that boto3 signed."""
    if app.key is None:
        return True
    given = request.headers.get("x-api-key", "")
    authorization = request.headers.get("authorization", "")
    if not given and authorization[:7].lower() == "bearer ":
        given = authorization[7:].strip()
    if not given and authorization.startswith("AWS4-HMAC-SHA256 Credential="):
        given = authorization.partition("=")[2].partition("/")[0]
    return hmac.compare_digest(given.encode(), app.key)


class _Invocation:
    """One POST: read, pass on or answer, count, keep."""

    def __init__(self, app: App, *, amazon: bool) -> None:
        self._app, self._amazon = app, amazon

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As ASGI calls it."""
        request = Request(scope, receive)
        try:
            response = await self._respond(request, scope)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request, scope: Any) -> Response:
        app, start = self._app, time.monotonic()
        failure: Failure | None = None
        passed: Passed | None = None
        reply = Reply(b"", "")
        body = b""
        try:
            failure = self._refused(request)
            body = await _body(request, app.limits.body_bytes)
            start = time.monotonic()
            if failure is None:
                passed = await self._elsewhere(request, scope, body)
                if passed is not None:
                    response = Response(passed.body, passed.status)
                    response.raw_headers = list(passed.headers)
                    return response
                reply = await self._answer(request, scope, body, start)
        except ClientDisconnect:
            raise
        except HoundsightError as error:
            failure = failures.of(error)
        except Exception as error:
            log.exception("A request failed.")
            failure = failures.of(JobError(f"The request failed: {type(error).__name__}: {error}"))
        seconds = time.monotonic() - start
        if failure is not None:
            response = failures.amazon(failure) if self._amazon else failures.plain(failure)
        else:
            response = _packed(reply, request.headers.get("accept-encoding", ""))
        response.headers["x-amzn-invoked-production-variant"] = app.variant
        response.headers["x-amzn-requestid"] = str(uuid.uuid4())
        app.metrics.answered(failure.status if failure else reply.status, seconds)
        if app.capture is not None:
            app.capture(_captured(app, request, body, reply, response, seconds))
        return response

    def _refused(self, request: Request) -> Failure | None:
        if not _knows_key(self._app, request):
            return failures.NO_KEY
        asked = request.path_params.get("name", self._app.name)
        return None if asked == self._app.name else failures.no_endpoint(asked)

    async def _elsewhere(self, request: Request, scope: Any, body: bytes) -> Passed | None:
        if self._app.forward is None or scope.get("state", {}).get("private"):
            return None
        target = request.headers.get("x-amzn-sagemaker-target-variant")
        line = b"POST %b HTTP/1.1" % scope["raw_path"]
        return await self._app.forward(target, line, scope["headers"], body)

    async def _answer(self, request: Request, scope: Any, body: bytes, start: float) -> Reply:
        app, headers = self._app, request.headers
        if headers.get("content-encoding", "identity").lower() in ("gzip", "deflate", "x-gzip"):
            body = gunzip(body, app.limits.body_bytes)
        if app.service.problem:
            raise JobError(app.service.problem)
        call = Call(
            body,
            headers.get("content-type", ""),
            headers.get("accept", ""),
            headers,
            start + _patience(headers.get("x-deadline-ms"), app.limits.answer_seconds),
            lambda: "gone" in scope,
        )
        return await app.service.answer(call)


def _captured(app: App, request: Request, body: bytes, reply: Reply, response: Response, seconds: float) -> Captured:
    failed = not reply.content_type
    return Captured(
        content_type=request.headers.get("content-type", ""),
        body=body,
        status=response.status_code,
        answer=bytes(response.body) if failed else reply.body,
        answer_type="application/json" if failed else reply.content_type,
        variant=app.variant,
        inference_id=request.headers.get("x-amzn-sagemaker-inference-id", ""),
        seconds=seconds,
    )


def _patience(header: str | None, most: float) -> float:
    """Seconds: what the caller is willing to wait from now on, in milliseconds, at most what the endpoint allows."""
    if header is None:
        return most
    try:
        milliseconds = float(header)
    except ValueError:
        milliseconds = float("nan")
    if not 0 < milliseconds < float("inf"):
        raise RequestRefusedError(400, f"X-Deadline-Ms is '{header[:40]}', not a number of milliseconds.")
    return min(most, milliseconds / 1e3)


async def _body(request: Request, most: int) -> bytes:
    """The whole body; raises `RequestRefusedError` 413, after the rest was read and thrown away."""
    stated = request.headers.get("content-length", "0")
    length = int(stated) if stated.isdecimal() and len(stated) < 19 else 0
    refused = RequestRefusedError(413, f"The body has more than {most:,} bytes.", "Send a smaller image.")
    if length > DISCARD or (length > most and "expect" in request.headers):  # who asks first has sent nothing yet
        raise refused
    blocks, size = [], 0
    async for block in request.stream():
        size += len(block)
        if size <= most:
            blocks.append(block)
        elif size > DISCARD:
            break
        else:
            blocks.clear()
    if size > most:
        raise refused
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _packed(reply: Reply, accepted: str) -> Response:
    headers = {"content-type": reply.content_type, **reply.headers}
    body = reply.body
    if len(body) >= _GZIP_FROM and "gzip" in accepted and "content-encoding" not in headers:
        body = gzip.compress(body, compresslevel=1, mtime=0)
        headers |= {"content-encoding": "gzip", "vary": "accept-encoding"}
    return Response(body, reply.status, headers)


def instance_headers() -> list[tuple[bytes, bytes]]:
    """What every answer of this process carries."""
    return [(b"server", b"houndsight"), (b"x-houndsight-instance", str(os.getpid()).encode())]
