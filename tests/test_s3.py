"""S3 in and out, against two servers that know nothing of us."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from houndsight import s3
from houndsight.data import sources
from houndsight.data.archives import content_hash
from houndsight.errors import DataError
from tests.s3_servers import KEY, SECRET, running

boto3 = pytest.importorskip("boto3")
pytestmark = pytest.mark.peer

TREE = {
    "dog/train/beagle/a.jpg": b"a" * 1000,
    "dog/train/beagle/b c+é%20.jpg": b"b" * 2000,
    "dog/train/boxer/a.jpg": b"c" * 300_000,
    "dog/empty.txt": b"",
    "dog-hpo/train/beagle/z.jpg": b"never",
    "dog.csv": b"path,label\n",
    "doghouse/a.jpg": b"never",
}
BELOW_DOG = {key.removeprefix("dog/"): value for key, value in TREE.items() if key.startswith("dog/")}


@pytest.fixture(scope="module", params=["moto", "rclone"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(request.param, tmp_path_factory.mktemp(request.param) / "buckets") as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    _as_somebody(monkeypatch, server)
    client = s3.connect()
    if "kennel" not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket="kennel")
    held = {each["Key"] for each in client.list_objects_v2(Bucket="kennel").get("Contents", ())}
    for key in held - set(TREE):
        client.delete_object(Bucket="kennel", Key=key)
    for key, value in TREE.items():
        client.put_object(Bucket="kennel", Key=key, Body=value)
    return client


def _as_somebody(monkeypatch: pytest.MonkeyPatch, server: str, secret: str = SECRET) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def _tree(folder: Path) -> dict[str, bytes]:
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_a_prefix_is_a_folder_and_nothing_beside_it(bucket: Any, tmp_path: Path) -> None:
    for address in ("s3://kennel/dog", "s3://kennel/dog/"):
        assert _tree(s3.fetch(address, tmp_path / "copy")) == BELOW_DOG


def test_a_whole_bucket_and_a_single_object(bucket: Any, tmp_path: Path) -> None:
    assert _tree(s3.fetch("s3://kennel", tmp_path / "all")) == TREE
    assert _tree(s3.fetch("s3://kennel/dog.csv", tmp_path / "one")) == {"dog.csv": TREE["dog.csv"]}


def test_the_second_fetch_takes_only_what_changed(bucket: Any, tmp_path: Path) -> None:
    folder = s3.fetch("s3://kennel/dog", tmp_path / "copy")
    before = {each: each.stat().st_ino for each in folder.rglob("*.jpg")}
    # Seconds are all that some servers tell of a time: the new object differs in size.
    bucket.put_object(Bucket="kennel", Key="dog/train/boxer/a.jpg", Body=b"other")
    bucket.delete_object(Bucket="kennel", Key="dog/train/beagle/a.jpg")
    (folder / "train/beagle/stray.jpg").write_bytes(b"not in the bucket")
    s3.fetch("s3://kennel/dog", folder)
    wanted = BELOW_DOG | {"train/boxer/a.jpg": b"other"}
    del wanted["train/beagle/a.jpg"]
    assert _tree(folder) == wanted
    kept = folder / "train/beagle/b c+é%20.jpg"
    assert kept.stat().st_ino == before[kept]


def test_progress_counts_bytes_up_to_the_whole(bucket: Any, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    s3.fetch("s3://kennel/dog", tmp_path / "copy", progress=lambda *now: seen.append(now), workers=1)
    total = sum(map(len, BELOW_DOG.values()))
    assert seen[-1] == ("fetch", total, total)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_begun_file_goes_on_where_it_stopped(bucket: Any, tmp_path: Path) -> None:
    big = os.urandom(1_000_000)
    bucket.put_object(Bucket="kennel", Key="dog/big.bin", Body=big)
    bucket_ranges: list[str] = []
    with _proxy(os.environ["AWS_ENDPOINT_URL_S3"], cut_after=300_000, ranges=bucket_ranges) as address:
        os.environ["AWS_ENDPOINT_URL_S3"] = address
        folder = s3.fetch("s3://kennel/dog/big.bin", tmp_path / "copy")
    assert (folder / "big.bin").read_bytes() == big
    assert len(bucket_ranges) == 3, "a million bytes, 300,000 at a time: three times taken up again"
    assert not list(folder.glob(".*"))


def test_bytes_that_were_changed_on_the_way_are_refused(bucket: Any, tmp_path: Path) -> None:
    with _proxy(os.environ["AWS_ENDPOINT_URL_S3"], spoil=True) as address:
        os.environ["AWS_ENDPOINT_URL_S3"] = address
        with pytest.raises(DataError, match=r"did not arrive as it is stored|checksum"):
            s3.fetch("s3://kennel/dog/train/boxer", tmp_path / "copy")
    assert _tree(tmp_path / "copy") == {}


def test_an_object_of_several_parts_is_verified_by_its_size(bucket: Any, tmp_path: Path) -> None:
    from boto3.s3.transfer import TransferConfig

    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(11 << 20))
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    bucket.upload_file(str(big), "kennel", "parts/big.bin", Config=parts)
    folder = s3.fetch("s3://kennel/parts", tmp_path / "copy")
    assert content_hash(folder / "big.bin") == content_hash(big)


def test_put_and_fetch_are_inverse(bucket: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a/x y.txt").write_text("x")
    (source / "b.txt").write_text("b")
    s3.put(source, "s3://kennel/put/here")
    assert _tree(s3.fetch("s3://kennel/put/here", tmp_path / "back")) == _tree(source)
    s3.put(source / "b.txt", "s3://kennel/put/one.txt")
    assert _tree(s3.fetch("s3://kennel/put/one.txt", tmp_path / "one")) == {"one.txt": b"b"}


def test_a_source_is_copied_into_the_cache(bucket: Any, tmp_path: Path) -> None:
    folder = sources.local("s3://kennel/dog", tmp_path)
    assert folder.is_relative_to(tmp_path / "s3")
    assert _tree(folder) == BELOW_DOG
    assert sources.local("s3://kennel/dog-hpo", tmp_path) != folder


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://kennel/do", "nothing at s3://kennel/do"),
        ("s3://kennel/dog/tr", "nothing at"),
        ("s3://no-such-kennel/dog", "NoSuchBucket"),
        ("s3:///dog", "no S3 address"),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(bucket: Any, tmp_path: Path, address: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        s3.fetch(address, tmp_path / "copy")
    assert caught.value.repair


def test_keys_that_would_leave_the_folder_are_refused(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no path of a file"):
        s3._object("s3://kennel/dog", "dog/../../x", "../../x", {})


def test_a_wrong_secret_is_told_by_a_server_that_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running("rclone", tmp_path / "buckets") as address:
        (tmp_path / "buckets/kennel").mkdir()
        _as_somebody(monkeypatch, address, secret="wrong")
        with pytest.raises(DataError, match="SignatureDoesNotMatch"):
            s3.fetch("s3://kennel/dog", tmp_path / "copy")


def test_nobody_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _as_somebody(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(DataError, match="Could not connect"):
        s3.fetch("s3://kennel/dog", tmp_path / "copy")


class _proxy:  # noqa: N801
    """A line to a server that breaks every so many bytes, or changes one of them."""

    def __init__(self, target: str, cut_after: int = 0, spoil: bool = False, ranges: list[str] | None = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                request = Request(target + self.path, headers=dict(self.headers.items()))
                with urlopen(request) as answer:
                    body, status, headers = answer.read(), answer.status, answer.headers
                if self.headers.get("Range") and ranges is not None:
                    ranges.append(self.headers["Range"])
                is_object = "list-type" not in self.path
                if spoil and is_object:
                    body = bytes([body[0] ^ 1]) + body[1:]
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                cut = cut_after and is_object and len(body) > cut_after
                self.wfile.write(body[:cut_after] if cut else body)
                if cut:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
