"""Every way to send images, and what is refused; then every way to get the answer."""

import base64
import gzip
import io
import json
import pickle
import zlib
from typing import Any

import numpy as np
import pytest

from houndsight.errors import HoundsightError, ImageError
from houndsight.serving.answers import encode, wanted
from houndsight.serving.requests import RequestRefusedError, gunzip, parse
from houndsight.serving.settings import Limits

from .light import CLASSES, PREPROCESS, SIDE, picture

LIMITS = Limits(images=4, pixels=10_000)
B64 = base64.b64encode(picture()).decode()


def npy(array: Any, allow_pickle: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=allow_pickle)
    return out.getvalue()


def ask(content_type: str, body: bytes | str | dict[str, Any] | list[Any]) -> Any:
    if isinstance(body, dict | list):
        body = json.dumps(body)
    return parse(content_type, body if isinstance(body, bytes) else body.encode(), PREPROCESS, LIMITS)


@pytest.mark.parametrize(
    "kind",
    ["image/jpeg", "image/png", "IMAGE/WEBP; q=1", "image/x-anything", "application/x-image", "", "binary/octet-stream",
     "application/octet-stream", "application/x-www-form-urlencoded"],
)  # fmt: skip
def test_one_picture(kind: str) -> None:
    asked = ask(kind, picture())
    assert (asked.images, asked.many) == ([picture()], False)


@pytest.mark.parametrize(
    ("document", "many"),
    [({"image": B64}, False), ({"images": [B64, B64]}, True), ({"images": [B64]}, True), ([B64, B64], True),
     ({"instances": [{"b64": B64}, {"image_bytes": {"b64": B64}}]}, True),
     ({"data": "data:image/png;base64," + B64}, False),
     ([{"image": B64}], True)],
)  # fmt: skip
def test_base64(document: Any, many: bool) -> None:
    asked = ask("application/json", document)
    assert set(asked.images) == {picture()}
    assert asked.many is many


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("application/json", (SIDE, SIDE, 3)),
        ("application/x-npy", (2, SIDE, SIDE, 3)),
        ("application/x-npy", (50, 40, 3)),
    ],
)
def test_arrays(kind: str, shape: tuple[int, ...]) -> None:
    array = np.full(shape, 200, np.uint8)
    asked = ask(kind, array.tolist() if kind == "application/json" else npy(array))
    assert asked.many is (len(shape) == 4)
    assert len(asked.images) == (shape[0] if len(shape) == 4 else 1)
    for image in asked.images:
        assert image.shape == (SIDE, SIDE, 3)
        assert image.dtype == np.uint8
        assert (image == 200).all()


def test_normalised_tensors_as_scripts_send_them() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    mean, std = np.array(PREPROCESS.mean, np.float32), np.array(PREPROCESS.std, np.float32)
    tensor = ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    for asked in (ask("application/x-npy", npy(tensor)), ask("application/json", tensor.tolist())):
        np.testing.assert_array_equal(np.stack(asked.images), pixels)


def test_a_form_with_several_files() -> None:
    parts = [picture(0), b"not a picture", picture(255)]
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n%b\r\n' % part for part in parts
    )
    asked = ask('multipart/form-data; boundary="x"', body + b"--x--\r\n")
    assert asked.images == parts
    assert asked.many


class Evil:
    """Would say so if it were unpickled."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled",))


def huge_header() -> bytes:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999999, 999999999, 3)}"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 100


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("image/jpeg", b"", 400),
        ("text/html", b"<html>", 415),
        ("application/pdf", b"%PDF", 415),
        ("application/json", b"{", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b'"' + b"\xff" * 9 + b'"', 400),
        ("application/json", "{}", 400),
        ("application/json", "[]", 400),
        ("application/json", "null", 400),
        ("application/json", "17", 400),
        ("application/json", '"http://x/y.jpg"', 400),
        ("application/json", '{"url": "http://127.0.0.1/y.jpg"}', 400),
        ("application/json", {"images": [{"url": "http://x/"}]}, 400),
        ("application/json", {"image": "not base64 !"}, 400),
        ("application/json", {"image": {"image": {"image": 3}}}, 400),
        ("application/json", {"images": ["QUJD"] * 5}, 413),
        ("application/json", {"images": []}, 400),
        ("application/json", [[1, 2], [3]], 400),
        ("application/json", [[1, "a"]], 400),
        ("application/json", [[[1e400, 0, 0]]], 400),
        ("application/json", [[1, 2], [3, 4]], 400),
        ("application/x-npy", b"\x93NUMPY", 400),
        ("application/x-npy", b"rubbish", 400),
        ("application/x-npy", pickle.dumps(Evil()), 400),
        ("application/x-npy", npy(np.array([Evil()], dtype=object), allow_pickle=True), 400),
        ("application/x-npy", huge_header(), 400),
        ("application/x-npy", npy(np.zeros((4, 4))), 400),
        ("application/x-npy", npy(np.zeros((5, 8, 8, 3), np.uint8)), 413),
        ("application/x-npy", npy(np.zeros((0, 8, 8, 3), np.uint8)), 400),
        ("application/x-npy", npy(np.full((8, 8, 3), np.nan)), 400),
        ("application/x-npy", npy(np.zeros((101, 100, 3), np.uint8)), 413),
        ("application/x-npy", npy(np.zeros((8, 8, 3), "c16")), 400),
        ("application/x-npy", npy(np.array(["a"])), 400),
        ("multipart/form-data", b"--x\r\n", 400),
        ("multipart/form-data; boundary=x", b"rubbish", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"a: b\r\n" * 5000, 400),
    ],
)  # fmt: skip
def test_refused(kind: str, body: Any, status: int) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        ask(kind, body)
    assert caught.value.status == status


def test_gzip_and_its_bombs() -> None:
    assert gunzip(gzip.compress(b"abc"), 10) == b"abc"
    assert gunzip(zlib.compress(b"abc"), 10) == b"abc"
    for body, status in ((gzip.compress(bytes(10**7)), 413), (b"rubbish", 400), (gzip.compress(b"abc")[:-9], 400)):
        with pytest.raises(RequestRefusedError) as caught:
            gunzip(body, 10**6)
        assert caught.value.status == status


# ------------------------------------------------------------------------------------------- answers

ROW = np.array([0.1, 0.2, 0.7])
BROKEN: HoundsightError = ImageError("broken")


def answer(accept: str, *rows: Any, many: bool = False, reject_below: float = 0.0) -> tuple[Any, str]:
    body, kind = encode(rows, many, wanted(accept, "classes", 2), CLASSES, reject_below)
    return (json.loads(body) if kind == "application/json" else body), kind


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/json", "text/html, application/json;q=0.9", "application/*"]
)
def test_classes_by_default(accept: str) -> None:
    best = [{"class": "light", "probability": 0.7}, {"class": "grey", "probability": 0.2}]
    assert answer(accept, ROW)[0] == {"predictions": best}


def test_json_in_other_forms() -> None:
    assert answer("application/json;sagemaker", ROW)[0] == [[0.1, 0.2, 0.7]]
    assert answer("application/json; format=sagemaker", ROW, BROKEN, many=True)[0] == [[0.1, 0.2, 0.7], None]
    verbose = answer("application/json;verbose", ROW)[0]
    assert verbose["predicted_label"] == "light"
    assert dict(zip(verbose["labels"], verbose["probabilities"], strict=True)) == {
        "dark": 0.1,
        "grey": 0.2,
        "light": 0.7,
    }
    assert len(answer("application/json;top=1", ROW)[0]["predictions"]) == 1
    assert len(answer("application/json;top=99", ROW)[0]["predictions"]) == 3


def test_several_images_have_a_list_even_if_one_is_broken() -> None:
    found = answer("", ROW, BROKEN, many=True)[0]
    assert found[0]["predictions"][0]["class"] == "light"
    assert found[1] == {"predictions": [], "error": {"kind": "ImageError", "message": "broken", "repair": ""}}


def test_numbers() -> None:
    body, kind = answer("text/csv", ROW, BROKEN, many=True)
    assert (body, kind) == (b"0.1,0.2,0.7\nnan,nan,nan\n", "text/csv")
    assert answer("text/csv;verbose", ROW)[0].startswith(b"dark,grey,light\n")
    array = np.load(io.BytesIO(answer("application/x-npy", ROW)[0]), allow_pickle=False)
    np.testing.assert_array_equal(array, ROW[None])


def test_rejected_by_confidence() -> None:
    found = answer("", ROW, reject_below=0.8)[0]
    assert found == {"predictions": [], "rejected": {"below": 0.8, "best": {"class": "light", "probability": 0.7}}}
    assert answer("", ROW, reject_below=0.7)[0]["predictions"]


def test_an_answer_that_there_is_not() -> None:
    with pytest.raises(RequestRefusedError) as caught:
        wanted("text/html, image/png", "classes", 5)
    assert caught.value.status == 406
