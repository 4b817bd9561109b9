"""Whether new instances truly answer: each is asked over its own socket, as a caller would, before any caller does."""

import asyncio
import io
from collections.abc import Sequence

from houndsight.errors import JobError
from houndsight.folders import EndpointFolder
from houndsight.serving import routes
from houndsight.serving.settings import InstanceSettings

LISTEN_SECONDS, RETRY_SECONDS = 5.0, 0.05
"""An instance that says it is ready may need a moment until it listens."""
SIDE = 64
"""Side in pixels of the picture that is sent; what is on it does not matter, that it is answered does."""


async def all_answer(folder: EndpointFolder, settings: InstanceSettings, slots: Sequence[int]) -> None:
    """Ping each instance and send it a picture; raises `JobError` with what was answered instead.

    Handlers of the user's own may want something else than a picture: they are only pinged.
    """
    key = [(b"x-api-key", folder.key.read_bytes().strip())] if settings.key_file is not None else []
    headers = [(b"host", b"localhost"), (b"content-type", b"image/jpeg"), *key]
    picture = await asyncio.to_thread(_picture)
    for slot in slots:
        peer = f"{folder.sockets.name}/{slot}.sock"
        await _ask(peer, slot, b"GET /ping HTTP/1.1", headers, b"")
        if settings.handlers is None:
            await _ask(peer, slot, b"POST /invocations HTTP/1.1", headers, picture)


async def _ask(peer: str, slot: int, head: bytes, headers: routes.Headers, body: bytes) -> None:
    until = asyncio.get_running_loop().time() + LISTEN_SECONDS
    while True:
        try:
            answer = await routes.request(peer, head, headers, body)
            break
        except (routes.Unreachable, routes.Broken) as error:
            if isinstance(error, routes.Broken) or asyncio.get_running_loop().time() > until:
                raise JobError(f"The new instance {slot} does not answer {head.decode()}: {error}.") from error
            await asyncio.sleep(RETRY_SECONDS)
    if answer.status != 200:
        said = answer.body[:300].decode(errors="replace")
        raise JobError(f"The new instance {slot} answers {head.decode()} with {answer.status}: {said}")


def _picture() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB").save(file, "JPEG")
    return file.getvalue()
