"""Reads an image from an address that a caller named; only where the endpoint was deployed so."""

import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from houndsight.serving.requests import RequestRefusedError
from houndsight.serving.settings import Limits

_SECONDS = 10.0
_BLOCK = 65536


def fetch(limits: Limits, seconds: float) -> Callable[[str], bytes]:
    """A function that reads an http(s) address, `limits.body_bytes` at most and within `seconds`; redirects refused.

    It raises `RequestRefusedError`. Link-local addresses, where clouds keep a machine's credentials, are never asked.
    """
    deadline = time.monotonic() + min(seconds, _SECONDS)

    def read(url: str) -> bytes:
        try:
            place = urllib.parse.urlsplit(url)
            if place.scheme not in ("http", "https") or not place.hostname:
                raise RequestRefusedError(400, "The address is not http or https.")
            _allowed(place.hostname, place.port or (443 if place.scheme == "https" else 80))
            opener = urllib.request.build_opener(_NoRedirects)
            with opener.open(url, timeout=max(0.1, deadline - time.monotonic())) as answer:
                return _read(answer, limits.body_bytes, deadline)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise RequestRefusedError(400, f"The address cannot be read: {reason}.") from error

    return read


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """A redirect becomes the error of its own status."""
        return


def _allowed(host: str, port: int) -> None:
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        found = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if found.is_link_local or found.is_multicast or found.is_unspecified:
            raise RequestRefusedError(400, f"The address {found} is not asked.")


def _read(answer: http.client.HTTPResponse, most: int, deadline: float) -> bytes:
    body = bytearray()
    while block := answer.read1(_BLOCK):
        body += block
        if len(body) > most:
            raise RequestRefusedError(413, f"What the address holds is larger than {most:,} bytes.")
        if time.monotonic() > deadline:
            raise RequestRefusedError(400, "The address answers too slowly.")
    return bytes(body)
