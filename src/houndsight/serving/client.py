"""A client for an endpoint, of this package or of any other program: `Endpoint(url).predict(bytes)`; needs no library.

It keeps its connection, and tries again only where the request cannot have been begun.
"""

import http.client
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from houndsight.errors import JobError, RequestError, SpecError, from_document

_TIMEOUT = 70.0
_BOUNDARY = "houndsight-4b1f6d0c9a"
_TRIES = 4
_STARTS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
}


class Endpoint:
    """An endpoint by its address; several threads may use one, and connections are kept between requests."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = _TIMEOUT) -> None:
        """`url` as `deploy` gave it, such as `http://127.0.0.1:8080`; `timeout` in seconds."""
        place = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
        if place.scheme not in ("http", "https") or not place.hostname:
            raise SpecError(f"'{url}' is not the address of an endpoint.", "Such as http://127.0.0.1:8080.")
        self._place, self._timeout = place, timeout
        self._path = place.path.rstrip("/")
        self._headers = {"X-Api-Key": api_key} if api_key else {}
        self._kept: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def predict(self, image: bytes | str | Path, *, variant: str | None = None) -> list[dict[str, Any]]:
        """`[{"class", "probability"}, ...]`, most probable first, of one image: its bytes or a file.

        Empty where the endpoint rejects it as too uncertain. Raises the endpoint's error as `HoundsightError`, and
        `JobError` where a script answers in words of its own: `ask` gives those.
        """
        answer = self.ask(image, variant=variant)
        if not isinstance(answer, dict) or not isinstance(answer.get("predictions"), list):
            raise JobError(f"{self._place.geturl()} names no classes: a script answers there.", "Take `ask` instead.")
        found: list[dict[str, Any]] = answer["predictions"]
        return found

    def ask(self, image: bytes | str | Path, *, variant: str | None = None) -> Any:
        """The endpoint's answer to one image as it is: what the JSON says, or text where a script answers with that."""
        body = _bytes(image)
        headers = {"Content-Type": _content_type(body)}
        if variant is not None:
            headers["X-Amzn-SageMaker-Target-Variant"] = variant
        status, text = self._ask("POST", "/invocations", body, headers)
        try:
            return self._said(status, text)
        except JobError:
            if status != 200:
                raise
            return text.decode(errors="replace")

    def predict_many(self, images: Iterable[bytes | str | Path]) -> list[dict[str, Any]]:
        """One request with several images: `{"predictions": [...]}` of each, or `{"predictions": [], "error": ...}`."""
        body = bytearray()
        count = 0
        for count, image in enumerate(images, start=1):
            head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{count}"\r\n\r\n'
            body += head.encode() + _bytes(image) + b"\r\n"
        body += f"--{_BOUNDARY}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        answer = self._json("POST", "/invocations", bytes(body), headers)
        return answer if isinstance(answer, list) else [answer]

    def ready(self) -> bool:
        """Whether it is there and warm."""
        try:
            return self._ask("GET", "/ping", b"", {})[0] == 200
        except JobError:
            return False

    def load(self) -> dict[str, Any]:
        """What is served, and what each instance is doing."""
        found: dict[str, Any] = self._json("GET", "/load", b"", {})
        return found

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections; a further request opens another."""
        with self._lock:
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def _json(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
        return self._said(*self._ask(method, path, body, headers))

    def _said(self, status: int, text: bytes) -> Any:
        """The document of an answer; raises the error that it is."""
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if status == 200 and document is not None:
            return document
        error = document.get("error") if isinstance(document, dict) else None
        if isinstance(error, dict) and error.get("message"):
            known = from_document(error)
            if type(known).__name__ == error.get("kind"):
                raise known
            kind = RequestError if status < 500 else JobError
            raise kind(str(error["message"]), str(error.get("repair", "")))
        raise JobError(f"{self._place.geturl()} answered {status}.", "Is it an endpoint of Houndsight?")

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body. A kept connection that the endpoint has closed meanwhile is replaced by a new one."""
        for attempt in range(_TRIES):
            connection, kept = self._connection()
            try:
                connection.request(method, self._path + path, body or None, {**self._headers, **headers})
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # Nothing came back on a kept connection: it was closed while idle, so the request was never read.
                if not kept or not isinstance(error, ConnectionError):
                    raise self._unreachable(error) from error
                continue
            if answer.will_close:
                connection.close()
            else:
                with self._lock:
                    self._kept.append(connection)
            if answer.status == 429 and attempt + 1 < _TRIES:
                time.sleep(min(5.0, float(answer.headers.get("Retry-After") or 1)))
                continue
            return answer.status, text
        raise self._unreachable(ConnectionError("the connection was closed again and again"))

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it has been used before."""
        with self._lock:
            if self._kept:
                return self._kept.pop(), True
        kind = http.client.HTTPSConnection if self._place.scheme == "https" else http.client.HTTPConnection
        assert self._place.hostname is not None
        connection = kind(self._place.hostname, self._place.port, timeout=self._timeout)
        try:
            connection.connect()
        except OSError as error:
            raise self._unreachable(error) from error
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, False

    def _unreachable(self, error: Exception) -> JobError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return JobError(f"The endpoint {self._place.geturl()} cannot be reached: {reason}.", "`houndsight endpoints`.")


def _content_type(body: bytes) -> str:
    """What it is by its first bytes; scripts of SageMaker go by it, Houndsight itself does not."""
    known = next((kind for start, kind in _STARTS.items() if body.startswith(start)), "application/octet-stream")
    return "image/webp" if body[:4] == b"RIFF" and body[8:12] == b"WEBP" else known


def _bytes(image: bytes | str | Path) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).expanduser().read_bytes()
    except OSError as error:
        raise RequestError(f"The image {image} cannot be read: {error.strerror}.") from error
