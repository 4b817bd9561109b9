"""Keeps a sample of the requests with their answers, to be looked at and trained on; never in a caller's way.

    capture/<day>T<hour>-<slot>.jsonl    one line a request: id, time, variant, content type, status, answer, file
    capture/<day>T<hour>-<slot>/<id>.jpg what was sent, byte for byte

A thread of its own writes. What finds no room, in its queue or on the disk, is left out and counted.
"""

import json
import logging
import queue
import random
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from houndsight.serving.app import Captured

log = logging.getLogger("houndsight")

QUEUE_BYTES = 32 * 2**20
"""Bodies that wait to be written; more are left out."""
FLOOR_BYTES = 128 * 2**20
"""Nothing is captured while the disk has less room than this: others need it more."""
PAUSE_SECONDS = 10.0
"""After a write that failed nothing is tried for so long."""
_ENDINGS = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/tiff": ".tiff",
    "application/json": ".json",
    "application/x-npy": ".npy",
}


class Capture:
    """Samples requests into `folder`; `most` is the room in bytes that all instances together may take there."""

    def __init__(self, folder: Path, *, share: float, most: int, slot: int) -> None:
        self.left_out = 0
        """Requests that were chosen and could not be kept."""
        self._folder, self._share, self._most = folder, share, most
        self._slot = slot
        self._waiting: queue.SimpleQueue[Captured | None] = queue.SimpleQueue()
        self._bytes = 0
        self._lock = threading.Lock()
        self._unpruned = most  # so that the first write looks at what earlier instances left
        self._paused_until = 0.0
        self._thread = threading.Thread(target=self._write, name="capture", daemon=True)
        self._thread.start()

    def __call__(self, request: "Captured") -> None:
        """Keep a request if it is one of the sample; returns at once."""
        if random.random() >= self._share:
            return
        size = len(request.body) + len(request.answer)
        with self._lock:
            if self._bytes + size > QUEUE_BYTES:
                self.left_out += 1
                return
            self._bytes += size
        self._waiting.put(request)

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, for at most `timeout` seconds."""
        self._waiting.put(None)
        self._thread.join(timeout)

    def _write(self) -> None:
        while (request := self._waiting.get()) is not None:
            with self._lock:
                self._bytes -= len(request.body) + len(request.answer)
            if time.monotonic() < self._paused_until:
                self.left_out += 1
                continue
            try:
                self._keep(request)
            except OSError as error:
                self.left_out += 1
                self._paused_until = time.monotonic() + PAUSE_SECONDS
                log.warning(
                    "Captured requests cannot be written (%s); the endpoint goes on without, for %.0f s at least.",
                    error.strerror or error,
                    PAUSE_SECONDS,
                )

    def _keep(self, request: "Captured") -> None:
        self._folder.mkdir(exist_ok=True)
        if shutil.disk_usage(self._folder).free < FLOOR_BYTES:
            raise OSError(f"the disk has less than {FLOOR_BYTES >> 20} MiB left")
        if self._unpruned > self._most // 50:
            prune(self._folder, self._most)
            self._unpruned = 0
        now = time.time()
        hour = f"{time.strftime('%Y-%m-%dT%H', time.gmtime(now))}-{self._slot}"
        name = uuid.uuid4().hex + _ENDINGS.get(request.content_type.partition(";")[0].strip().lower(), ".bin")
        (self._folder / hour).mkdir(exist_ok=True)
        (self._folder / hour / name).write_bytes(request.body)
        line = {
            "id": Path(name).stem,
            "time": round(now, 3),
            "variant": request.variant,
            "inference_id": request.inference_id,
            "content_type": request.content_type,
            "file": f"{hour}/{name}",
            "status": request.status,
            "milliseconds": round(request.seconds * 1e3, 3),
            "answer": _readable(request.answer, request.answer_type),
        }
        text = json.dumps(line).encode() + b"\n"
        with (self._folder / f"{hour}.jsonl").open("ab") as file:
            # A line of its own, also behind one that a killed instance left half-written.
            file.write(text if _at_line_start(self._folder / f"{hour}.jsonl") else b"\n" + text)
        self._unpruned += len(request.body) + len(text)


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Every captured request, oldest hour first; a line that a killed instance left half-written is left out."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                yield record


def prune(folder: Path, most: int) -> None:
    """Delete the oldest files below `folder` until it holds `most` bytes at most, less a twentieth.

    Other instances may do the same at the same time: a file that is gone already is no loss.
    """
    files = []
    for path in folder.rglob("*"):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            files.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in files)
    if total <= most:
        return
    for _, size, path in sorted(files):
        path.unlink(missing_ok=True)
        total -= size
        if total <= most - most // 20:
            break
    for path in folder.iterdir():
        if path.is_dir() and not any(path.iterdir()):
            try:
                path.rmdir()
            except OSError:
                continue  # somebody wrote into it just now


def _at_line_start(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _readable(answer: bytes, kind: str) -> Any:
    if kind.startswith("application/json"):
        try:
            return json.loads(answer)
        except ValueError:
            pass
    return answer[:4096].decode("utf-8", "backslashreplace")
