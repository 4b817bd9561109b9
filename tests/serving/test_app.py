"""The endpoint over real HTTP: routes, limits, keys, errors as people and as boto3 see them."""

import base64
import gzip
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from PIL import Image

from houndsight.serving.app import Captured
from houndsight.serving.settings import Limits

from .light import CLASSES, SIDE, Served, brightness, picture, predictor, serving

IMAGE = {"Content_Type": "image/png"}


@pytest.fixture(scope="module")
def lamp() -> Iterator[Served]:
    with serving(limits=Limits(body_bytes=100_000, images=20, queue=50)) as served:
        yield served


def runtime(served: Served, key: str = "x") -> Any:
    return boto3.client(
        "sagemaker-runtime", endpoint_url=f"http://127.0.0.1:{served.port}", region_name="eu-west-1",
        aws_access_key_id=key, aws_secret_access_key="y", config=Config(retries={"max_attempts": 1}),
    )  # fmt: skip


def test_ping_and_page(lamp: Served) -> None:
    assert lamp.ask(path="/ping", method="GET")[0] == 200
    status, body, headers = lamp.ask(path="/", method="GET")
    assert status == 200
    assert b"lamp" in body
    assert "default-src 'none'" in headers["content-security-policy"]


def test_an_image_in_and_classes_out(lamp: Served) -> None:
    status, body, headers = lamp.ask(picture(), **IMAGE)
    best = json.loads(body)["predictions"][0]
    assert (status, best["class"]) == (200, "light")
    assert best["probability"] > 0.98
    assert headers["x-amzn-invoked-production-variant"] == "A"
    assert "forward;dur=" in headers["server-timing"]
    assert "date" in headers


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_under_any_name(lamp: Served, kind: str) -> None:
    for content_type in ("image/jpeg", "application/octet-stream"):
        body = lamp.ask(picture(0, kind), Content_Type=content_type)[1]
        assert json.loads(body)["predictions"][0]["class"] == "dark"


def test_other_answers(lamp: Served) -> None:
    csv = lamp.ask(picture(), **IMAGE, Accept="text/csv")[1]
    array = np.load(io.BytesIO(lamp.ask(picture(), **IMAGE, Accept="application/x-npy")[1]), allow_pickle=False)
    nested = json.loads(lamp.ask(picture(), **IMAGE, Accept="application/json;sagemaker")[1])
    np.testing.assert_allclose([float(each) for each in csv.decode().split(",")], array[0], rtol=1e-6)
    np.testing.assert_allclose(nested, array)


def test_gzip_both_ways(lamp: Served) -> None:
    many = json.dumps({"instances": [np.full((SIDE, SIDE, 3), 255).tolist()] * 8}).encode()
    assert len(many) > 100_000
    small = gzip.compress(json.dumps({"images": [base64.b64encode(picture()).decode()] * 12}).encode())
    status, body, headers = lamp.ask(
        small, Content_Type="application/json", Content_Encoding="gzip", Accept_Encoding="gzip"
    )
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert [each["predictions"][0]["class"] for each in json.loads(gzip.decompress(body))] == ["light"] * 12
    assert lamp.ask(gzip.compress(many), Content_Type="application/json", Content_Encoding="gzip")[0] == 413


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "says"),
    [
        ("/invocations", b"", {}, 400, "no body"),
        ("/invocations", b"hello", IMAGE, 400, "not a JPEG"),
        ("/invocations", picture()[:60], IMAGE, 400, "truncated"),
        ("/invocations", b"x" * 100_001, IMAGE, 413, "more than 100,000 bytes"),
        ("/invocations", picture(size=(2000, 1000)), IMAGE, 400, "more than the limit"),
        ("/invocations", b"{}", {"Content_Type": "application/json"}, 400, "holds no image"),
        ("/invocations", b"%PDF", {"Content_Type": "application/pdf"}, 415, "application/pdf"),
        ("/invocations", picture(), {"Accept": "text/html"}, 406, "No answer"),
        ("/invocations", picture(), {"X_Deadline_Ms": "soon"}, 400, "X-Deadline-Ms"),
        ("/invocations", picture(), {"Content_Encoding": "gzip"}, 400, "not gzip"),
        ("/elsewhere", picture(), {}, 404, "nothing here"),
    ],
)
def test_one_sentence_for_what_was_wrong(
    lamp: Served, path: str, body: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    found, text, answered = lamp.ask(body, path, **headers)
    assert found == status
    assert says in json.loads(text)["error"]["message"]
    assert "x-amzn-errortype" not in answered


def test_method_not_allowed(lamp: Served) -> None:
    assert lamp.ask(method="GET")[0] == 405


def test_a_form_where_one_image_is_broken(lamp: Served) -> None:
    parts = [picture(0), b"broken", picture(255)]
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n%b\r\n' % part for part in parts
    )
    status, text, _ = lamp.ask(body + b"--x--\r\n", Content_Type="multipart/form-data; boundary=x")
    found = json.loads(text)
    assert status == 200
    assert [each["predictions"][0]["class"] if each["predictions"] else None for each in found] == [
        "dark",
        None,
        "light",
    ]
    assert found[1]["error"]["kind"] == "ImageError"


def test_a_poisoned_burst_hurts_nobody_else(lamp: Served) -> None:
    bodies = [b"\xff\xd8\xff rubbish" if number == 5 else picture(255 * (number % 2)) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            answers = list(pool.map(lambda body: lamp.ask(body, **IMAGE), bodies))
            assert [status for status, *_ in answers] == [400 if number == 5 else 200 for number in range(16)]


# --------------------------------------------------------------------------------------------- boto3


def test_boto3(lamp: Served) -> None:
    answer = runtime(lamp).invoke_endpoint(EndpointName="lamp", ContentType="application/x-image", Body=picture())
    assert json.loads(answer["Body"].read())["predictions"][0]["class"] == "light"
    assert answer["InvokedProductionVariant"] == "A"
    assert answer["ResponseMetadata"]["RequestId"]


@pytest.mark.parametrize(
    ("name", "body", "code", "says"),
    [("lamp", b"rubbish", "ModelError", "not a JPEG"), ("moon", b"x", "ValidationError", "Endpoint moon of account"),
     ("lamp", b"x" * 200_000, "413", "")],
)  # fmt: skip
def test_boto3_picks_its_error_class(lamp: Served, name: str, body: bytes, code: str, says: str) -> None:
    with pytest.raises(ClientError) as caught:
        runtime(lamp).invoke_endpoint(EndpointName=name, ContentType="image/jpeg", Body=body)
    assert caught.value.response["Error"]["Code"] == code
    assert says in str(caught.value)
    if code == "ModelError":
        assert caught.value.response["OriginalStatusCode"] == 400


# ---------------------------------------------------------------------------------------------- keys


def test_without_the_key_nothing_is_told() -> None:
    with serving(key=b"secret") as lamp:
        for headers in ({}, {"X_Api_Key": "secre"}, {"X_Api_Key": "sécret"}, {"Authorization": "Bearer x"}):
            for path in ("/invocations", "/endpoints/lamp/invocations"):
                try:
                    assert lamp.ask(picture(), path, **headers)[0] == 403
                except UnicodeEncodeError:
                    continue
            assert lamp.ask(path="/metrics", method="GET")[0] == 403
            assert lamp.ask(path="/load", method="GET")[0] == 403
        assert lamp.ask(path="/ping", method="GET")[0] == 200
        for headers in ({"X_Api_Key": "secret"}, {"Authorization": "Bearer secret"}):
            assert lamp.ask(picture(), **headers)[0] == 200
        assert lamp.ask(path="/metrics", method="GET", X_Api_Key="secret")[0] == 200
        runtime(lamp, "secret").invoke_endpoint(EndpointName="lamp", Body=picture())
        with pytest.raises(ClientError, match="AccessDenied"):
            runtime(lamp, "guessed").invoke_endpoint(EndpointName="lamp", Body=picture())


# ---------------------------------------------------------------------------------- load and waiting


class Gate:
    """Brightness, once it is let."""

    def __init__(self) -> None:
        self.go, self.inside, self.count = threading.Event(), threading.Event(), 0

    def __call__(self, batch: Any) -> Any:
        self.count += len(batch)
        self.inside.set()
        assert self.go.wait(20)
        return brightness(batch)


def test_a_full_queue_is_429_with_retry_after() -> None:
    gate = Gate()
    with serving(predictor(gate), threads=1, limits=Limits(queue=2)) as lamp, ThreadPoolExecutor(8) as pool:
        first = pool.submit(lamp.ask, picture())
        assert gate.inside.wait(10)
        waiting = [pool.submit(lamp.ask, picture()) for _ in range(2)]
        while lamp.server.app.service.waiting < 2:
            time.sleep(0.001)
        status, text, headers = lamp.ask(picture())
        assert status == 429
        assert int(headers["retry-after"]) >= 1
        assert "waiting already" in json.loads(text)["error"]["message"]
        with pytest.raises(ClientError, match="ThrottlingException"):
            runtime(lamp).invoke_endpoint(EndpointName="lamp", Body=picture())
        gate.go.set()
        assert [future.result()[0] for future in (first, *waiting)] == [200] * 3


def test_a_deadline_that_passes_in_the_queue_is_504_and_not_computed() -> None:
    gate = Gate()
    with serving(predictor(gate), threads=1) as lamp, ThreadPoolExecutor(8) as pool:
        first = pool.submit(lamp.ask, picture())
        assert gate.inside.wait(10)
        late = pool.submit(lamp.ask, picture(), X_Deadline_Ms="20")
        while lamp.server.app.service.waiting < 1:
            time.sleep(0.001)
        time.sleep(0.03)
        gate.go.set()
        assert (first.result()[0], late.result()[0]) == (200, 504)
        assert gate.count == 1


def test_who_hangs_up_is_not_computed_for() -> None:
    gate = Gate()
    with serving(predictor(gate), threads=1) as lamp, ThreadPoolExecutor(8) as pool:
        first = pool.submit(lamp.ask, picture())
        assert gate.inside.wait(10)
        connection = http.client.HTTPConnection("127.0.0.1", lamp.port)
        connection.request("POST", "/invocations", picture())
        while lamp.server.app.service.waiting < 1:
            time.sleep(0.001)
        connection.close()
        while lamp.server.board.connections > 1:
            time.sleep(0.001)
        gate.go.set()
        assert first.result()[0] == 200
        assert lamp.ask(picture())[0] == 200
        assert gate.count == 2


def test_a_model_that_fails_is_500_and_named() -> None:
    def broken(_: Any) -> Any:
        raise ValueError("no such weight")

    with serving(predictor(broken)) as lamp:
        status, text, _ = lamp.ask(picture())
        assert status == 500
        assert "no such weight" in json.loads(text)["error"]["message"]
        with pytest.raises(ClientError, match=r"Received server error \(500\)"):
            runtime(lamp).invoke_endpoint(EndpointName="lamp", Body=picture())


def test_rejected_and_sagemaker_by_default() -> None:
    with serving(reject_below=0.99, form="sagemaker", top=1) as lamp:
        assert np.shape(json.loads(lamp.ask(picture())[1])) == (1, 3)
        found = json.loads(lamp.ask(picture(60), Accept="application/json;classes")[1])
        assert found["predictions"] == []
        assert found["rejected"]["below"] == 0.99


# ------------------------------------------------------------------------------ what can be looked at


def test_metrics_and_load() -> None:
    with serving() as lamp:
        lamp.ask(picture())
        lamp.ask(b"rubbish")
        text = lamp.ask(path="/metrics", method="GET")[1].decode()
        assert 'houndsight_requests_total{code="200",endpoint="lamp",variant="A"} 1.0' in text
        assert 'houndsight_requests_total{code="400",endpoint="lamp",variant="A"} 1.0' in text
        for name in ("request_seconds", "queue_seconds", "decode_seconds", "forward_seconds", "batch_images"):
            assert f'houndsight_{name}_count{{endpoint="lamp",variant="A"}}' in text
        for name in ("houndsight_queue_images", "houndsight_instance_memory_bytes", "houndsight_instance_cpu_seconds"):
            assert name in text
        found = json.loads(lamp.ask(path="/load", method="GET")[1])
        assert found["model"]["classes"] == list(CLASSES)
        assert found["instances"][0]["requests"] == 2


def test_capture_is_told_everything() -> None:
    kept: list[Captured] = []
    with serving(capture=kept.append) as lamp:
        lamp.ask(picture(), **IMAGE, X_Amzn_SageMaker_Inference_Id="7", Accept_Encoding="gzip")
        lamp.ask(b"rubbish", **IMAGE)
    assert [(each.status, each.inference_id, each.variant) for each in kept] == [(200, "7", "A"), (400, "", "A")]
    assert kept[0].body == picture()
    assert json.loads(kept[0].answer)["predictions"][0]["class"] == "light"
    assert b"not a JPEG" in kept[1].answer


def test_a_polyglot_is_one_picture_and_nothing_else(lamp: Served) -> None:
    out = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "white").save(out, "GIF")
    for tail in (b"<script>alert(1)</script>", b"PK\x03\x04" + bytes(50), b"%PDF-1.7"):
        status, text, headers = lamp.ask(out.getvalue() + tail, Content_Type="text/html; image/gif".partition("; ")[2])
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(text)["predictions"][0]["class"] == "light"
