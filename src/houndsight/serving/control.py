"""How a supervisor is told what to do: JSON lines over a unix socket that only the endpoint's owner can open.

caller -> supervisor    {"do": "describe"}                                   one line, then
supervisor -> caller    {"note": "..."} as often as it likes, and at last {"result": {...}} or {"error": {...}}
"""

import asyncio
import json
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from houndsight.errors import HoundsightError, JobError, RequestError, from_document
from houndsight.folders import EndpointFolder

log = logging.getLogger("houndsight")

LONGEST_PATH = 100
"""Bytes: the kernel takes 104 (macOS) to 108 (Linux) for the path of a unix socket."""
PATIENCE = 30.0
"""Seconds that a supervisor may be silent; it says something at least every `NOTE_SECONDS` while it works."""
NOTE_SECONDS = 5.0
LINE_BYTES = 1 << 20

Tell = Callable[[str], None]
"""Says how far something is, to whoever asked for it."""
Handle = Callable[[dict[str, Any], Tell], Awaitable[dict[str, Any]]]


@asynccontextmanager
async def listening(folder: EndpointFolder, handle: Handle) -> AsyncIterator[None]:
    """Answer callers while this lasts; the working directory is the endpoint's folder, so the path is short."""
    folder.control.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(
            lambda reader, writer: _serve(reader, writer, handle), folder.control.name, limit=LINE_BYTES
        )
    finally:
        os.umask(before)
    try:
        yield
    finally:
        server.close()
        folder.control.unlink(missing_ok=True)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handle) -> None:
    def say(document: dict[str, Any]) -> None:
        if not writer.is_closing():
            writer.write(json.dumps(document).encode() + b"\n")

    async def still_here() -> None:
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            say({})

    pulse = asyncio.create_task(still_here())
    try:
        line = await reader.readline()
        if line:
            try:
                order = json.loads(line)
            except ValueError:
                raise RequestError("The order is not one line of JSON.") from None
            # What was begun is brought to an end though the caller may go away meanwhile.
            say({"result": await handle(order, lambda text: say({"note": text}))})
    except HoundsightError as error:
        say({"error": error.document()})
    except Exception as error:
        log.exception("An order was not carried out.")
        say({"error": JobError(f"{type(error).__name__}: {error}", "The endpoint's log has the traceback.").document()})
    finally:
        pulse.cancel()
        writer.close()


def ask(folder: EndpointFolder, order: dict[str, Any], tell: Tell = log.info) -> dict[str, Any]:
    """Give the supervisor an order and wait for its result; what it says meanwhile goes to `tell`.

    Raises the error that it answered, and `JobError` where it cannot be reached or goes silent.
    """
    with _connected(folder) as line:
        line.settimeout(PATIENCE)
        line.sendall(json.dumps(order).encode() + b"\n")
        return conclude(folder, line, tell)


def conclude(folder: EndpointFolder, line: socket.socket, tell: Tell) -> dict[str, Any]:
    """Read what a supervisor says to its end: the result is returned, an error is raised."""
    try:
        with line.makefile("rb") as file:
            for each in file:
                said = json.loads(each)
                if "error" in said:
                    raise from_document(said["error"])
                if "result" in said:
                    result: dict[str, Any] = said["result"]
                    return result
                if "note" in said:
                    tell(said["note"])
    except TimeoutError:
        raise JobError(f"The supervisor of endpoint '{folder.name}' is silent.", _REPAIR.format(folder)) from None
    except OSError as error:
        raise JobError(f"The supervisor of endpoint '{folder.name}': {error.strerror}.") from error
    raise JobError(f"The supervisor of endpoint '{folder.name}' ended.", f"Its log says more: {folder.log}")


_REPAIR = "`houndsight delete-endpoint {0.name}` removes it; then deploy it again."


@contextmanager
def _connected(folder: EndpointFolder) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as line, _short(folder.control) as path:
        try:
            line.connect(str(path))
        except OSError as error:
            raise JobError(
                f"The supervisor of endpoint '{folder.name}' cannot be reached: {error.strerror or error}.",
                _REPAIR.format(folder),
            ) from error
        yield line


@contextmanager
def _short(path: Path) -> Iterator[Path]:
    """The same place by a path that is short enough for a unix socket."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="hs-") as place:
        link = Path(place) / "e"
        link.symlink_to(path.parent)
        yield link / path.name
