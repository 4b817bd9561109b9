"""Every format and mode as people see it, and every kind of file that is no whole image."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from houndsight.data.formats import jpeg_header, orientation
from houndsight.data.images import decode, read, thumbnail
from houndsight.errors import ImageError
from tests.data.pictures import Pixels, encoded, photo

PHOTO = photo()
ALPHA = np.tile(np.linspace(0, 255, PHOTO.shape[1]).astype(np.uint8), (PHOTO.shape[0], 1))


def off(one: Pixels, other: Pixels) -> float:
    assert one.shape == other.shape
    assert one.dtype == np.uint8
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def on_white(image: Image.Image) -> Pixels:
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    share = rgba[..., 3:] / 255
    return np.round(rgba[..., :3] * share + 255 * (1 - share)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_the_very_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert off(decode(encoded(PHOTO, kind, **options)), PHOTO) == 0


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "jpeg", "packbits"])
def test_compressed_tiff(compression: str) -> None:
    assert off(decode(encoded(PHOTO, "TIFF", compression=compression)), PHOTO) < 5


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
def test_jpeg_as_pillow_reads_it(options: dict[str, bool], subsampling: str) -> None:
    data = encoded(PHOTO, "JPEG", quality=90, subsampling=subsampling, **options)
    assert off(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))) < 0.6


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpeg(mode: str) -> None:
    data = encoded(Image.fromarray(PHOTO).convert(mode), "JPEG", quality=95)
    assert off(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))) < 0.6
    assert off(decode(data), np.asarray(Image.fromarray(PHOTO).convert(mode).convert("RGB"))) < 6


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_modes_without_transparency(mode: str) -> None:
    image = Image.fromarray(PHOTO).convert(mode)
    for kind in ["TIFF"] if mode == "CMYK" else ["TIFF", "PNG", "BMP", "GIF"]:
        assert off(decode(encoded(image, kind)), np.asarray(image.convert("RGB"))) == 0


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF")])
def test_alpha_is_laid_on_white(mode: str, kind: str) -> None:
    image = Image.fromarray(PHOTO)
    image.putalpha(Image.fromarray(ALPHA))
    image = image.convert(mode)
    data = encoded(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert np.abs(decode(data).astype(int) - on_white(image)).max() <= 1
    assert (decode(data)[:, 0] == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_colours_are_white(kind: str) -> None:
    image = Image.fromarray(PHOTO).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    first = image.getpixel((0, 0))
    seen = decode(encoded(image, kind, transparency=first))
    assert (seen[np.asarray(image) == first] == 255).all()
    assert off(seen, np.asarray(image.convert("RGB"))) > 0
    bytes_of_alpha = bytes(range(0, 256, 16))
    image.info["transparency"] = bytes_of_alpha
    if kind == "PNG":
        assert np.abs(decode(encoded(image, kind)).astype(int) - on_white(image)).max() <= 1


def test_the_transparent_colour_of_an_rgb_png() -> None:
    image = Image.new("RGB", (8, 8), (9, 9, 9))
    image.putpixel((2, 2), (200, 0, 0))
    seen = decode(encoded(image, "PNG", transparency=(9, 9, 9)))
    assert seen[2, 2].tolist() == [200, 0, 0]
    assert seen[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_brightness(kind: str) -> None:
    grey = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    seen = decode(encoded(Image.fromarray(grey), kind))
    assert seen.shape == (32, 32, 3)
    assert np.abs(seen[..., 1].astype(float) - grey / 257).max() <= 1


def test_sixteen_bit_colour_png() -> None:
    wide = PHOTO.astype(">u2") * 257
    height, width = PHOTO.shape[:2]
    raw = b"".join(b"\0" + row.tobytes() for row in wide)
    assert off(decode(png(width, height, raw, depth=16)), PHOTO) == 0


def test_numbers_without_a_white_are_refused() -> None:
    for image in (Image.fromarray(np.zeros((4, 4), np.float32)), Image.fromarray(np.zeros((4, 4), np.int32))):
        with pytest.raises(ImageError, match="no fixed white"):
            decode(encoded(image, "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_pictures_the_first(kind: str) -> None:
    frames = [Image.fromarray(photo(seed=seed)) for seed in range(3)]
    data = encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert off(decode(data), np.asarray(frames[0])) < (8 if kind == "GIF" else 0.01)


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_as_people_see_it(turned: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(PHOTO, kind, exif=exif, **lossless, **({"quality": 95} if kind == "JPEG" else {}))
    people_see = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    seen = decode(data)
    assert seen.shape == ((90, 60, 3) if turned > 4 else (60, 90, 3))
    assert off(seen, people_see) < 0.6
    assert seen.flags.c_contiguous


def test_orientation_of_broken_exif_is_none() -> None:
    good = Image.Exif()
    good[0x0112] = 6
    block = good.tobytes()
    assert orientation(block) == 6
    assert [orientation(block[:length]) for length in range(20)] == [1] * 20
    assert orientation(block.replace(b"\x01\x12", b"\x02\x12")) == 1
    assert orientation(b"") == 1


@given(st.binary(max_size=60))
def test_no_bytes_upset_the_header_readers(data: bytes) -> None:
    assert 1 <= orientation(b"II*\0" + data) <= 8
    assert 1 <= orientation(b"Exif\0\0MM\0*" + data) <= 8
    assert isinstance(jpeg_header(b"\xff\xd8" + data)[0], bytes)


JPEG = encoded(photo(200, 300), "JPEG", quality=90)
WHOLE = {
    "JPEG": JPEG,
    "progressive": encoded(photo(200, 300), "JPEG", quality=90, progressive=True),
    "PNG": encoded(photo(200, 300), "PNG"),
    "GIF": encoded(photo(200, 300), "GIF"),
    "WebP": encoded(photo(200, 300), "WEBP"),
    "BMP": encoded(photo(200, 300), "BMP"),
    "TIFF": encoded(photo(200, 300), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
@pytest.mark.parametrize("kind", list(WHOLE))
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    data = WHOLE[kind]
    with pytest.raises(ImageError) as caught:
        decode(data[: int(len(data) * share)])
    assert any(word in caught.value.message for word in ("truncated", "damaged"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (b"\0" * 999, "999 zero bytes, not an image"),
        (b"<!DOCTYPE html><html></html>", "an HTML page, not an image"),
        (b"\n <HTML>", "an HTML page, not an image"),
        (b"<svg xmlns=''>", "an XML or SVG text"),
        (b"\0\0\0\x18ftypheic", "a HEIC, AVIF or video file"),
        (b"hello", "not a JPEG, PNG, WebP, BMP, GIF or TIFF image"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"\xff\xd8\xff\xd9", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF89a", "GIF"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"RIFF\0\0\0\0WEBP", "WebP"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(data: bytes, said: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_stray_bytes_before_the_end_harm_nothing() -> None:
    assert off(decode(JPEG[:-2] + b"\0" * 20 + JPEG[-2:]), decode(JPEG)) == 0
    assert off(decode(JPEG + b"more"), decode(JPEG)) == 0


def test_a_data_segment_that_ends_early_is_damage() -> None:
    with pytest.raises(ImageError, match="truncated"):
        decode(JPEG[: len(JPEG) // 2] + b"\xff\xd9")


def png(width: int, height: int, raw: bytes, depth: int = 8) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


@pytest.mark.parametrize(
    "data",
    [
        png(100_000, 100_000, b"\0" * 1000),
        jpeg_of_size(65_000, 65_000),
        b"GIF89a"
        + struct.pack("<HH", 65_535, 65_535)
        + b"\x80\0\0"
        + bytes(6)
        + b","
        + struct.pack("<HHHH", 0, 0, 65_535, 65_535)
        + b"\0\x08\x01\0\0;",
        b"BM" + struct.pack("<IHHIIiiHHI", 100, 0, 0, 54, 40, 100_000, 100_000, 1, 24, 0) + b"\0" * 60,
    ],
)
def test_too_many_pixels_are_refused_by_the_header(data: bytes) -> None:
    with pytest.raises(
        ImageError, match=r"more .*than the limit of 178 million|pixels, more than the limit of 178 million"
    ):
        decode(data)


def test_hundreds_of_progressive_scans_are_refused() -> None:
    at = WHOLE["progressive"].rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="more than 100 progressive scans"):
        decode(WHOLE["progressive"][:at] + WHOLE["progressive"][at:-2] * 200 + b"\xff\xd9")


@settings(max_examples=150)
@given(st.sampled_from(list(WHOLE)), st.data())
def test_rubbish_never_raises_anything_else(kind: str, draw: st.DataObject) -> None:
    data = bytearray(WHOLE[kind][: draw.draw(st.integers(0, 4000))])
    for _ in range(draw.draw(st.integers(0, 8))):
        if data:
            data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        image = decode(bytes(data))
    except ImageError:
        return
    assert image.ndim == 3
    assert image.dtype == np.uint8


def test_no_warning_of_pillow_leaks() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    tiff = bytearray(encoded(PHOTO, "TIFF", exif=exif))
    (start,) = struct.unpack_from("<I", tiff, 4)
    tiff[start + 4 : start + 8] = struct.pack("<I", 2**31)
    apng = encoded(PHOTO, "PNG").replace(b"IDAT", b"IDAT", 1)
    broken = apng[:33] + struct.pack(">I", 8) + b"acTL" + b"\0" * 8 + struct.pack(">I", zlib.crc32(b"acTL" + b"\0" * 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert off(decode(broken + apng[33:]), PHOTO) == 0
        with pytest.raises(ImageError):
            decode(bytes(tiff))


@pytest.mark.slow
def test_ninety_million_pixels_are_read_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encoded(Image.new("1", (10_000, 9_000)), "PNG")).shape == (9_000, 10_000, 3)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be opened: No such file"):
        read(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="cannot be opened: Is a directory"):
        read(tmp_path)
    huge = tmp_path / "huge.bmp"
    with huge.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ImageError, match="more than the limit of 512 MiB"):
        read(huge)


def test_a_thumbnail_shows_the_whole_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    small = Image.open(io.BytesIO(thumbnail(tmp_path / "a.jpg")))
    assert small.format == "JPEG"
    assert small.size == (160, 107)
