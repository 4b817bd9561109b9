"""Random and malicious bodies: each is answered with a status that is the caller's fault or 200, never a 5xx or a hang.

`HOUNDSIGHT_FUZZ=10000` sends so many; the suite sends a few hundred.
"""

import base64
import gzip
import http.client
import io
import json
import os
import random
import struct
import zlib

import numpy as np
import psutil
import pytest
from PIL import Image

from houndsight.serving.settings import Limits

from .light import picture, serving

COUNT = int(os.environ.get("HOUNDSIGHT_FUZZ", "400"))
FINE = {200, 400, 406, 413, 415}
KINDS = ["image/jpeg", "image/png", "application/json", "application/x-npy", "multipart/form-data; boundary=x", "",
         "text/html", "application/octet-stream", "multipart/form-data", "application/json; charset=utf-7"]  # fmt: skip
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int, packed: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(packed), 9)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def seeds() -> list[bytes]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8))
    pictures = []
    for kind in FORMATS:
        out = io.BytesIO()
        noise.save(out, kind)
        pictures.append(out.getvalue())
    out = io.BytesIO()
    noise.save(out, "JPEG", progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0")
    npy = io.BytesIO()
    np.save(npy, np.zeros((2, 32, 32, 3), np.uint8))
    text = base64.b64encode(pictures[1]).decode()
    form = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n' + pictures[0] + b"\r\n--x--\r\n"
    documents: list[object] = [
        {"images": [text, text]},
        {"instances": [{"b64": text}]},
        {"url": "http://127.0.0.1:1/"},
        [[[1, 2, 3]] * 4] * 4,
    ]
    bombs = [
        png_bomb(60_000, 60_000, 1000),
        png_bomb(900, 900, 900 * 2701),
        png_bomb(999, 999, 100),
        gzip.compress(bytes(9 * 10**6)),
        b"GIF89a\xff\xff\xff\xff\xf7\0\0",
        b"BM" + b"\xff" * 60,
        b"II*\0\x08\0\0\0" + b"\xff" * 60,
        b"[" * 50_000,
        b'{"a":' * 20_000,
        b"\xff\xd8\xff\xe0" + b"\xff" * 2000,
        b"PK\x03\x04" + bytes(500),
    ]
    return [*pictures, out.getvalue(), npy.getvalue(), form, *(json.dumps(each).encode() for each in documents), *bombs]


def spoiled(rng: random.Random, body: bytes) -> bytes:
    data = bytearray(body)
    match rng.randrange(6):
        case 0:
            return bytes(data[: rng.randrange(len(data) + 1)])
        case 1:
            for _ in range(rng.randrange(1, 30)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        case 2:
            at = rng.randrange(len(data))
            data[at:at] = rng.randbytes(rng.randrange(1, 300))
        case 3:
            at = rng.randrange(len(data))
            del data[at : at + rng.randrange(1, 100)]
        case 4:
            return rng.randbytes(rng.randrange(0, 3000))
        case _:
            return bytes(data) + rng.randbytes(rng.randrange(0, 2000))
    return bytes(data)


def test_rubbish_is_the_callers_fault() -> None:
    rng, bodies = random.Random(COUNT), seeds()
    with serving(limits=Limits(body_bytes=2_000_000, pixels=1_000_000, images=8)) as lamp:
        connection = http.client.HTTPConnection("127.0.0.1", lamp.port, timeout=20)
        assert lamp.ask(picture(size=(50, 40)))[0] == 200  # imports what resizes
        before = psutil.Process().memory_info().rss
        seen: dict[int, int] = {}
        for number in range(COUNT):
            body = rng.choice(bodies)
            body = body if number < len(bodies) else spoiled(rng, body)
            headers = {"Content-Type": rng.choice(KINDS)}
            if rng.random() < 0.2:
                headers["Content-Encoding"] = rng.choice(["gzip", "deflate", "br"])
                body = gzip.compress(body) if rng.random() < 0.5 else body
            if rng.random() < 0.2:
                headers["Accept"] = rng.choice(
                    ["text/csv", "application/x-npy", "*/*", "image/png", "application/json;;=;top="]
                )
            path = rng.choice(["/invocations", "/endpoints/lamp/invocations"])
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            status = answer.status
            if status == 424:
                status = json.loads(text)["OriginalStatusCode"]
            assert status in FINE, (status, text[:300], headers, body[:100])
            if status != 200:
                assert json.loads(text)
            seen[status] = seen.get(status, 0) + 1
        connection.close()
        assert {200, 400, 415} <= set(seen)
        assert psutil.Process().memory_info().rss - before < 100 * 2**20
        assert lamp.ask(picture())[0] == 200


@pytest.mark.parametrize("bomb", [png_bomb(60_000, 60_000, 1000), png_bomb(30_000, 30_000, 10**7)])
def test_a_bomb_costs_nothing(bomb: bytes) -> None:
    with serving() as lamp:
        status, text, _ = lamp.ask(bomb, Content_Type="image/png")
        assert status == 400
        assert b"more than the limit" in text
