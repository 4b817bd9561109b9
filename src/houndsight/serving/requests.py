"""What callers send, as images: one encoded picture, a form with several, JSON or an array; below the app.

Pictures are told apart by their content, so a wrong content type of a picture does no harm. Nothing is unpickled, and
no address is fetched unless that was allowed.
"""

import base64
import binascii
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from houndsight.data.images import fit_to
from houndsight.errors import ImageError, RequestError
from houndsight.serving.batching import Image
from houndsight.serving.settings import Limits
from houndsight.spec import Preprocess

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_PICTURES = (
    "application/x-image",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "binary/octet-stream",
)
"""Beside image/*: what curl, boto3 and browsers call a picture when nobody told them."""
_B64_KEYS = ("b64", "base64", "image", "image_bytes", "data", "body")
_LISTS = ("images", "instances", "inputs")
FETCH = Callable[[str], bytes]


class RequestRefusedError(RequestError):
    """The request as a whole cannot be answered; `status` is the HTTP status."""

    def __init__(self, status: int, message: str, repair: str = "") -> None:
        super().__init__(message, repair)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """The images of one request."""

    images: list[Image]
    many: bool
    """Whether the answer is a list, also where it holds one image."""


def parse(content_type: str, body: bytes, preprocess: Preprocess, limits: Limits, fetch: FETCH | None = None) -> Asked:
    """The images in `body`; `fetch` reads an address where that is allowed.

    Raises `RequestRefusedError` with 400, 413 or 415. A compute thread decodes.
    """
    kind, _, options = content_type.partition(";")
    kind = kind.strip().lower()
    if not body:
        raise RequestRefusedError(400, "The request has no body.", "Send the bytes of an image.")
    if kind == "multipart/form-data":
        images: list[Image] = list(_parts(options, body, limits))
        asked = Asked(images, len(images) > 1)
    elif kind in ("application/json", "application/jsonlines"):
        asked = _from_json(body, preprocess, limits, fetch)
    elif kind == "application/x-npy":
        asked = _from_array(_read_npy(body, limits), preprocess, limits)
    elif not kind or kind.startswith("image/") or kind in _PICTURES:
        asked = Asked([body], many=False)
    else:
        raise RequestRefusedError(
            415, f"The content type '{kind[:100]}' is not taken.",
            "Send image/jpeg, png, webp, bmp, gif or tiff, multipart/form-data, application/json or application/x-npy.",
        )  # fmt: skip
    if not 1 <= len(asked.images) <= limits.images:
        raise RequestRefusedError(
            413 if asked.images else 400,
            f"The request holds {len(asked.images)} images; 1 to {limits.images} are taken at once.",
        )
    return asked


def gunzip(body: bytes, most: int) -> bytes:
    """Undo `Content-Encoding: gzip` (or deflate); raises `RequestRefusedError` where it unpacks to more than `most`."""
    unpack = zlib.decompressobj(wbits=47)  # either header
    try:
        plain = unpack.decompress(body, most + 1)
    except zlib.error as error:
        raise RequestRefusedError(400, f"The body is not gzip: {error}.") from error
    if len(plain) > most:
        raise RequestRefusedError(413, f"The body unpacks to more than {most:,} bytes.")
    if not unpack.eof:
        raise RequestRefusedError(400, "The body is not gzip: it ends in the middle.")
    return plain


# ---------------------------------------------------------------------------------------- multipart


def _parts(options: str, body: bytes, limits: Limits) -> list[bytes]:
    """Every file of a form, in order; fields without a file name count where they hold an image's bytes."""
    from python_multipart.exceptions import MultipartParseError
    from python_multipart.multipart import MultipartParser, parse_options_header

    _, found = parse_options_header(f"multipart/form-data;{options}")
    boundary = found.get(b"boundary", b"")
    parts: list[bytearray] = []

    def begin() -> None:
        parts.append(bytearray())

    def data(block: bytes, start: int, end: int) -> None:
        parts[-1] += block[start:end]

    try:
        parser = MultipartParser(boundary, cast("MultipartCallbacks", {"on_part_begin": begin, "on_part_data": data}))
        parser.write(body)
        parser.finalize()
    except (MultipartParseError, ValueError) as error:
        raise RequestRefusedError(400, f"The form cannot be read: {error}.") from error
    images = [bytes(part) for part in parts if part]
    if not images:
        raise RequestRefusedError(400, "The form holds no image.", "curl -F image=@dog.jpg URL")
    return images[: limits.images + 1]


# --------------------------------------------------------------------------------------------- JSON


def _from_json(body: bytes, preprocess: Preprocess, limits: Limits, fetch: FETCH | None) -> Asked:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:200] if isinstance(error, ValueError) else "it is nested too deeply"
        raise RequestRefusedError(400, f"The body is not JSON: {reason}.") from None
    many = isinstance(document, list) and not _numeric(document)
    if isinstance(document, dict):
        for key in _LISTS:
            if isinstance(document.get(key), list):
                document, many = document[key], True
                break
    if not many and _numeric(document):
        return _from_array(_array(document), preprocess, limits)
    entries = document if isinstance(document, list) else [document]
    images: list[Image] = []
    for entry in entries[: limits.images + 1]:
        images += _entry(entry, preprocess, limits, fetch)
    return Asked(images, many)


def _entry(entry: Any, preprocess: Preprocess, limits: Limits, fetch: FETCH | None) -> list[Image]:
    if isinstance(entry, str):
        return [_base64(entry)]
    if isinstance(entry, list):
        return _from_array(_array(entry), preprocess, limits).images
    if isinstance(entry, dict):
        if isinstance(entry.get("url"), str):
            return [_fetched(entry["url"], fetch)]
        for key in _B64_KEYS:
            if key in entry:
                return _entry(entry[key], preprocess, limits, None)
    raise RequestRefusedError(
        400, 'The JSON holds no image: expected {"image": "<base64>"}, {"images": [...]} or a list of pixels.'
    )


def _numeric(document: Any) -> bool:
    for _ in range(6):
        if not isinstance(document, list) or not document:
            break
        document = document[0]
    return isinstance(document, int | float) and not isinstance(document, bool)


def _array(document: list[Any]) -> NDArray[Any]:
    try:
        array = np.asarray(document)
    except (ValueError, OverflowError) as error:
        raise RequestRefusedError(400, f"The list is no array of pixels: {error}.") from error
    if array.dtype.kind not in "iuf":
        raise RequestRefusedError(400, "The list is no array of numbers.")
    return array


def _base64(text: str) -> bytes:
    if text.startswith("data:"):  # as browsers write it
        text = text.partition(",")[2]
    if text.startswith(("http://", "https://")):
        raise RequestRefusedError(400, "An address stands where an image was expected.", _NO_URL)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestRefusedError(400, f"An image is not base64: {error}.") from error


_NO_URL = "Send the image's bytes; addresses are fetched only by an endpoint that was deployed with --allow-url."


def _fetched(url: str, fetch: FETCH | None) -> bytes:
    if fetch is None:
        raise RequestRefusedError(400, "This endpoint fetches no addresses.", _NO_URL)
    return fetch(url)


# -------------------------------------------------------------------------------------------- arrays


def _read_npy(body: bytes, limits: Limits) -> NDArray[Any]:
    """The array of an .npy; its header is believed only as far as the body goes."""
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
        if kind.hasobject or kind.itemsize == 0:
            raise ValueError("it holds objects")
        count = 1
        for side in shape:
            count *= side
        if not 0 < count * kind.itemsize <= len(body) - file.tell() <= limits.body_bytes:
            raise ValueError(f"its header says {shape}, its size another thing")
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OverflowError, TypeError, EOFError, SyntaxError, RecursionError, MemoryError) as error:
        raise RequestRefusedError(400, f"The body is no .npy array: {str(error)[:200]}.") from None
    return array


def _from_array(array: NDArray[Any], preprocess: Preprocess, limits: Limits) -> Asked:
    """Pixels (H, W, 3) or (n, H, W, 3) of 0 to 255; or floats (n, 3, S, S), normalised as the network's input is."""
    side = preprocess.image_size
    single = array.ndim == 3
    batch = array[None] if single else array
    if batch.ndim != 4 or 0 in batch.shape or batch.dtype.kind not in "uif":
        raise RequestRefusedError(400, f"Expected pixels (n, H, W, 3), got {array.dtype} {array.shape}.")
    if len(batch) > limits.images:
        raise RequestRefusedError(413, f"The array holds {len(batch)} images; {limits.images} are taken at once.")
    if batch.shape[3] != 3 and batch.shape[1:] == (3, side, side) and batch.dtype.kind == "f":
        mean, std = (np.asarray(values, np.float32) for values in (preprocess.mean, preprocess.std))
        batch = (batch.transpose(0, 2, 3, 1).astype(np.float32) * std + mean) * 255
    if batch.shape[3] != 3:
        raise RequestRefusedError(400, f"Expected pixels (n, H, W, 3), got the shape {array.shape}.")
    if batch.shape[1] * batch.shape[2] > limits.pixels:
        raise RequestRefusedError(413, f"{batch.shape[2]:,} x {batch.shape[1]:,} pixels are more than the limit.")
    if batch.dtype != np.uint8:
        if not np.isfinite(batch).all():
            raise RequestRefusedError(400, "The array holds values that are not finite.")
        batch = np.clip(np.rint(batch), 0, 255).astype(np.uint8)
    if batch.shape[1:3] == (side, side):
        return Asked(list(batch), not single)
    try:
        return Asked([fit_to(image, preprocess) for image in batch], not single)
    except (ImageError, RuntimeError) as error:
        raise RequestRefusedError(400, f"The pixels cannot be resized: {error}.") from error
