"""Callers for the benchmark: so many keep-alive connections, each sending its next image when it has its answer.

    python -m benchmarks.serving.load PORT PATH CONTENT_TYPE FOLDER CALLERS REQUESTS

A process of its own, so that what it costs is not the server's. Prints JSON: n, bad, errors, seconds, and milliseconds.
"""

import json
import selectors
import socket
import sys
import time
from pathlib import Path


class Caller:
    """One connection."""

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.text, self.length, self.since = b"", -1, 0.0
        selector.register(self.socket, selectors.EVENT_READ, self)

    def send(self, request: bytes) -> None:
        self.text, self.length, self.since = b"", -1, time.perf_counter()
        self.socket.setblocking(True)
        self.socket.sendall(request)
        self.socket.setblocking(False)

    def whole(self) -> int | None:
        """The status once the answer is whole."""
        block = self.socket.recv(1 << 18)
        if not block:
            raise ConnectionError("closed")
        self.text += block
        if self.length < 0:
            head, found, _ = self.text.partition(b"\r\n\r\n")
            if not found:
                return None
            lower = head.lower()
            if b"transfer-encoding: chunked" in lower:
                return int(self.text[9:12]) if self.text.endswith(b"0\r\n\r\n") else None
            self.length = len(head) + 4 + int(lower.partition(b"content-length:")[2].split(b"\r\n")[0])
        return int(self.text[9:12]) if len(self.text) >= self.length else None


def run(port: int, path: str, kind: str, folder: Path, callers: int, requests: int) -> dict[str, float]:
    """Send `requests` requests; the images in `folder` in turn."""
    bodies = []
    for file in sorted(folder.iterdir()):
        body = file.read_bytes()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nContent-Type: {kind}\r\n"
        bodies.append(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    taken: list[float] = []
    bad = errors = 0
    with selectors.DefaultSelector() as selector:
        everybody = [Caller(port, selector) for _ in range(callers)]
        start, sent = time.perf_counter(), 0
        for caller in everybody[:requests]:
            caller.send(bodies[sent % len(bodies)])
            sent += 1
        while len(taken) + errors < requests:
            for key, _ in selector.select(60):
                caller = key.data
                try:
                    status = caller.whole()
                    if status is None:
                        continue
                    taken.append(time.perf_counter() - caller.since)
                    bad += status != 200
                except OSError:
                    errors += 1
                    selector.unregister(caller.socket)
                    caller.socket.close()
                    caller = Caller(port, selector)
                if sent < requests:
                    caller.send(bodies[sent % len(bodies)])
                    sent += 1
        seconds = time.perf_counter() - start
    taken.sort()
    return {
        "n": len(taken), "bad": bad, "errors": errors, "seconds": seconds, "rps": len(taken) / seconds,
        "p50": 1e3 * taken[len(taken) // 2], "p99": 1e3 * taken[int(0.99 * (len(taken) - 1))],
    }  # fmt: skip


if __name__ == "__main__":
    port, path, kind, folder, callers, requests = sys.argv[1:]
    print(json.dumps(run(int(port), path, kind, Path(folder), int(callers), int(requests))))
