"""How an error is told to a caller: one sentence as JSON, and for boto3 with the header by which it picks its class."""

import json
from dataclasses import dataclass

from starlette.responses import Response

from houndsight.errors import HoundsightError, ImageError, RequestError
from houndsight.serving.batching import ExpiredError, QueueFullError
from houndsight.serving.requests import RequestRefusedError

ACCOUNT = "000000000000"
NOT_HERE = {
    404: "There is nothing here. POST an image to /invocations.",
    405: "This address takes another method: POST an image to /invocations, GET /ping, /metrics and /load.",
}


@dataclass(frozen=True)
class Failure:
    """An error on its way out."""

    status: int
    kind: str
    message: str
    repair: str = ""
    retry_after: int | None = None
    amazon: str = ""
    """The error class of boto3's runtime client; empty for what its containers answer, which is a `ModelError`."""


NO_KEY = Failure(
    403, "RequestError", "The key is missing or wrong.", "Send it as X-Api-Key.", amazon="AccessDeniedException"
)


def no_endpoint(name: str) -> Failure:
    """As Amazon words it."""
    return Failure(
        400,
        "RequestError",
        f"Endpoint {name[:80]} of account {ACCOUNT} not found.",
        amazon="ValidationError",
    )


def of(error: HoundsightError) -> Failure:
    """The failure that an error is for the caller."""
    document = error.document()
    kind, message, repair = document["kind"], document["message"], document["repair"]
    if isinstance(error, QueueFullError):
        return Failure(429, kind, message, repair, error.retry_after, amazon="ThrottlingException")
    if isinstance(error, RequestRefusedError):
        return Failure(error.status, kind, message, repair, amazon=_NAMES.get(error.status, ""))
    if isinstance(error, ExpiredError):
        return Failure(504, kind, message, repair)
    if isinstance(error, ImageError):
        return Failure(400, kind, f"The image cannot be read: {message}", repair)
    return Failure(400 if isinstance(error, RequestError) else 500, kind, message, repair)


_NAMES = {503: "ServiceUnavailable"}


def plain(failure: Failure) -> Response:
    """The failure with its own status."""
    document = {"error": {"kind": failure.kind, "message": failure.message, "repair": failure.repair}}
    return _response(failure.status, document, failure)


def amazon(failure: Failure) -> Response:
    """The failure as the runtime service tells it: what went wrong in the model is 424 `ModelError`.

    A body that is too large is a bare 413, as there.
    """
    if failure.status == 413:
        return plain(failure)
    if failure.amazon:
        document = {"Message": failure.message, "message": failure.message}
        return _response(failure.status, document, failure, failure.amazon)
    side = "client" if failure.status < 500 else "server"
    told = f"{failure.message} {failure.repair}".strip()
    document = {
        "Message": f'Received {side} error ({failure.status}) from primary with message "{told}".',
        "OriginalStatusCode": failure.status,  # type: ignore[dict-item]
        "OriginalMessage": told,
        "LogStreamArn": "",
    }
    return _response(424, document, failure, "ModelError")


def _response(status: int, document: object, failure: Failure, name: str = "") -> Response:
    headers = {"content-type": "application/json"}
    if name:
        headers["x-amzn-errortype"] = name
    if failure.retry_after is not None:
        headers["retry-after"] = str(failure.retry_after)
    return Response(json.dumps(document).encode(), status, headers)
