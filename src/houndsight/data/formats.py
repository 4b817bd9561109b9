"""Every picture format but plain JPEG, by Pillow, and what the headers say; `images.decode` is its only door."""

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from houndsight.errors import ImageError

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 178_956_970
"""Pixels above which an image is refused by its header, before decoding (Pillow's own hard limit): 537 MB as RGB."""

_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_KNOWN = "JPEG, PNG, WebP, BMP, GIF or TIFF"
_LARGE_PIXELS = 32_000_000
_warnings = threading.Lock()
_large = threading.Lock()


def sniff(data: bytes) -> str:
    """Name of the format by its first bytes, whatever the file is called; raises `ImageError` for anything else."""
    start = data[:16]
    if not data:
        raise ImageError("0 bytes")
    for name, magics in _MAGIC.items():
        if start.startswith(magics):
            return name
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    raise ImageError(_what_else(data))


_MAGIC: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}


def _what_else(data: bytes) -> str:
    text = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, not an image"
    if text.startswith((b"<svg", b"<?xml")):
        return "an XML or SVG text, not a picture of pixels"
    if data[4:8] == b"ftyp":
        return f"a HEIC, AVIF or video file; convert it to {_KNOWN}"
    if not data.strip(b"\0"):
        return f"{len(data):,} zero bytes, not an image"
    return f"not a {_KNOWN} image"


def check_size(width: int, height: int, most: int = MAX_PIXELS) -> None:
    """Raise `ImageError` for more than `most` pixels, by default those that are ever decoded."""
    if width * height > most:
        raise ImageError(
            f"{width:,} x {height:,} pixels, more than the limit of {most // 10**6 or most / 10**6:g} million"
        )
    if width < 1 or height < 1:
        raise ImageError(f"{width} x {height} pixels")


def one_large_at_a_time(width: int, height: int) -> AbstractContextManager[object]:
    """To be held while decoding: pictures over 32 million pixels take turns, so that threads do not add them up."""
    return _large if width * height > _LARGE_PIXELS else nullcontext()


def with_pillow(data: bytes, kind: str, most: int = MAX_PIXELS) -> Pixels:
    """(H, W, 3) uint8 RGB of the first picture in `data`, upright, on white; raises `ImageError`."""
    # The reader of the sniffed format is used directly: Image.open would try forty formats and warn on its own terms.
    noisy = kind in ("TIFF", "GIF") or (kind == "PNG" and b"acTL" in data[:4096])
    try:
        with _silence() if noisy else io.BytesIO(), _READERS[kind](io.BytesIO(data)) as image:
            check_size(*image.size, most)
            with one_large_at_a_time(*image.size):
                image.load()
                pixels = _rgb(image)
            turned = 1 if kind == "TIFF" else orientation(image.info.get("exif", b""))
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"more pixels than the limit of {MAX_PIXELS // 10**6} million") from None
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(_reason(error, kind)) from error
    return upright(pixels, turned)


@contextmanager
def _silence() -> Iterator[None]:
    """No warnings of Pillow on odd metadata; one thread at a time, for Python's filters belong to the process."""
    with _warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reason(error: Exception, kind: str) -> str:
    said = str(error).strip()
    if "truncated" in said.lower() or isinstance(error, (EOFError, struct.error)):
        return f"truncated {kind}: the file ends before the picture does"
    return f"damaged {kind}: {said or type(error).__name__}" if " at 0x" not in said else f"damaged {kind}"


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode in ("I", "F"):
        raise ImageError("32-bit pixels have no fixed white; convert it to 8 or 16 bits")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _from_16_bit(image: Image.Image) -> Pixels:
    """The upper eight of the bits in use, as Pillow takes them of 16-bit colour."""
    bits = image.tag_v2.get(258, (16,))[0] if isinstance(image, TiffImagePlugin.TiffImageFile) else 16
    grey = np.asarray(image).astype(np.uint16)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0:
        grey = np.uint16((1 << bits) - 1) - grey
    return np.repeat((grey >> (bits - 8)).astype(np.uint8)[..., None], 3, axis=2)


def orientation(exif: bytes) -> int:
    """EXIF orientation 1 to 8 of an EXIF block; 1 where there is none or it makes no sense (tag 0x0112 of IFD 0)."""
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        return 1
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind = struct.unpack_from(f"{order}HH", block, at)
        if tag == 0x0112 and kind == 3:
            (value,) = struct.unpack_from(f"{order}H", block, at + 8)
            return int(value) if 1 <= value <= 8 else 1
    return 1


def jpeg_header(data: bytes) -> tuple[bytes, bool]:
    """The EXIF block of a JPEG (or nothing) and whether it is progressive; walks the markers before the first scan."""
    at, exif, progressive = 2, b"", False
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0xD9, 0xDA):
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4])
        progressive |= marker in (0xC2, 0xC6, 0xCA, 0xCE)
        if marker == 0xE1 and not exif and data[at + 4 : at + 10] == b"Exif\0\0":
            exif = data[at + 4 : at + 2 + length]
        at += 2 + length
    return exif, progressive


def upright(pixels: Pixels, turned: int) -> Pixels:
    """The picture turned and mirrored as EXIF orientation `turned` asks, contiguous."""
    if turned == 1:
        return pixels
    if turned >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flips = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
    down, across = flips.get(turned, (1, 1))
    return np.ascontiguousarray(pixels[::down, ::across])
