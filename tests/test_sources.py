"""DATA that is no folder yet: zips, sound and hostile, and addresses of them on a real web server."""

import io
import multiprocessing
import os
import signal
import stat
import struct
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from houndsight.data import archives, download, sources
from houndsight.errors import DataError

NAMES = [f"{split}/{label}/{n}.jpg" for split in ("train", "valid") for label in "ab" for n in range(3)]
FILES = {name: name.encode() for name in NAMES}


def packed(path: Path, files: dict[str, bytes] | None = None, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (FILES if files is None else files).items():
            archive.writestr(prefix + name, data)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def hidden(cache: Path) -> list[str]:
    return [each.name for each in cache.rglob(".*") if each.suffix != ".lock"]


@pytest.mark.parametrize("given", ["here", "/abs/here", "~/here", "list.csv", "C:\\here", "not-there.zip", ""])
def test_a_plain_path_comes_back_unchanged(tmp_path: Path, given: str) -> None:
    assert sources.local(given, tmp_path / "cache") == Path(given)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("given", ["ftp://host/x.zip", "file:///x.zip", "gs://bucket/x"])
def test_other_addresses_are_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(DataError, match="no source of data"):
        sources.local(given, tmp_path)


@pytest.mark.parametrize("prefix", ["", "dogImages/", "a/b/dogImages/"])
def test_a_zip_is_unpacked_once_and_the_folder_around_it_entered(tmp_path: Path, prefix: str) -> None:
    archive = packed(tmp_path / "data.ZIP", prefix=prefix)
    folder = sources.local(str(archive), tmp_path / "cache")
    assert tree(folder) == FILES
    kept = (folder / "train/a/0.jpg").stat().st_ino
    moved = archive.rename(tmp_path / "other name.zip")
    again = sources.local(str(moved), tmp_path / "cache")
    assert again == folder
    assert (again / "train/a/0.jpg").stat().st_ino == kept


def test_what_systems_add_is_left_out(tmp_path: Path) -> None:
    files = FILES | {"__MACOSX/train/a/._0.jpg": b"x", "train/.DS_Store": b"x", "train\\b\\9.jpg": b"back"}
    folder = sources.local(str(packed(tmp_path / "data.zip", files)), tmp_path / "cache")
    assert tree(folder) == FILES | {"train/b/9.jpg": b"back"}


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "..\\x.jpg", "C:/x.jpg", "C:\\x.jpg"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path / "data.zip", FILES | {name: b"x"})
    with pytest.raises(DataError, match="leaves its folder"):
        sources.local(str(archive), tmp_path / "cache")
    assert tree(tmp_path / "cache/zips").keys() <= {each.name for each in (tmp_path / "cache/zips").glob(".*.lock")}


def test_links_are_refused(tmp_path: Path) -> None:
    archive = packed(tmp_path / "data.zip")
    link = zipfile.ZipInfo("train/a/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="link or a device"):
        sources.local(str(archive), tmp_path / "cache")


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/0.jpg", bytes(archives.SMALL + 1))
    with pytest.raises(DataError, match="unpacks from"):
        sources.local(str(archive), tmp_path / "cache")


def test_a_header_that_lies_about_the_size_is_refused(tmp_path: Path) -> None:
    archive = packed(tmp_path / "data.zip", {"a/0.jpg": b"x" * 5000})
    data = archive.read_bytes()
    archive.write_bytes(data.replace(struct.pack("<I", 5000), struct.pack("<I", 10)))
    with pytest.raises(DataError, match="broken zip"):
        sources.local(str(archive), tmp_path / "cache")
    assert hidden(tmp_path / "cache") == []


@pytest.mark.parametrize("spoil", ["cut", "noise", "empty", "not a zip"])
def test_broken_archives(tmp_path: Path, spoil: str) -> None:
    archive = packed(tmp_path / "data.zip", {f"a/{n}.jpg": os.urandom(500) for n in range(20)})
    data = bytearray(archive.read_bytes())
    data[3000:3100] = bytes(100)
    spoiled = {"cut": bytes(data[:4000]), "noise": bytes(data), "empty": b"", "not a zip": b"<html>" * 100}
    archive.write_bytes(spoiled[spoil])
    with pytest.raises(DataError, match="broken zip"):
        sources.local(str(archive), tmp_path / "cache")
    assert hidden(tmp_path / "cache") == []


def test_an_empty_zip_and_a_file_that_is_also_a_folder(tmp_path: Path) -> None:
    for files, said in (({}, "holds no files"), ({"a": b"x", "a/b.jpg": b"x"}, "of the same name")):
        with pytest.raises(DataError, match=said):
            sources.local(str(packed(tmp_path / "data.zip", files)), tmp_path / "cache")


def _unpack(archive: str, cache: str) -> None:
    sources.local(archive, Path(cache))


def test_a_killed_unpacking_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    many = {f"a/{n}.jpg": b"x" * 200 for n in range(4_000)}
    archive = packed(tmp_path / "data.zip", many)
    process = multiprocessing.get_context("spawn").Process(target=_unpack, args=(str(archive), str(tmp_path / "cache")))
    process.start()
    place = tmp_path / "cache/zips"
    until = time.monotonic() + 60
    while not list(place.glob(".*.part/a/1??.jpg")) and time.monotonic() < until:
        assert process.is_alive()
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert [each for each in place.iterdir() if not each.name.startswith(".")] == []
    assert len(tree(sources.local(str(archive), tmp_path / "cache"))) == 4_000
    assert hidden(tmp_path / "cache") == []


class Web:
    """A web server whose one file, marks and manners a test may change."""

    def __init__(self) -> None:
        self.body = b""
        self.etag = '"1"'
        self.cut_after = 0
        self.ranges = True
        self.status = 200
        self.moved_to = ""
        self.asked: list[dict[str, str]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.url = f"http://127.0.0.1:{self.server.server_port}/data.zip?token=secret"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = {name.lower(): value for name, value in handler.headers.items()}
        self.asked.append(asked)
        if self.moved_to:
            handler.send_response(302)
            handler.send_header("Location", self.moved_to)
            handler.end_headers()
            return
        if self.status != 200 or asked.get("if-none-match") == self.etag:
            handler.send_response(self.status if self.status != 200 else 304)
            handler.end_headers()
            return
        start = 0
        if self.ranges and "range" in asked and asked.get("if-range") == self.etag:
            start = int(asked["range"].removeprefix("bytes=").rstrip("-"))
        body = self.body[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", self.etag)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cut_after] if self.cut_after else body)


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in (FILES | {"train/a/big.jpg": os.urandom(900_000)}).items():
            archive.writestr(name, data)
    web.body = content.getvalue()
    web.thread.start()
    yield web
    web.server.shutdown()
    web.thread.join()
    web.server.server_close()


def test_a_web_address_is_fetched_once_and_asked_for_news(web: Web, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = sources.local(web.url, tmp_path, lambda *now: seen.append(now))
    assert tree(folder).keys() == {*FILES, "train/a/big.jpg"}
    assert ("download", len(web.body), len(web.body)) in seen
    assert sources.local(web.url, tmp_path) == folder
    assert web.asked[-1]["if-none-match"] == '"1"'
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a/new.jpg", b"new")
        archive.writestr("b/new.jpg", b"new")
    web.body, web.etag = content.getvalue(), '"2"'
    assert tree(sources.local(web.url, tmp_path)).keys() == {"a/new.jpg", "b/new.jpg"}


def test_a_line_that_breaks_is_taken_up_where_it_broke(web: Web, tmp_path: Path) -> None:
    web.cut_after = 300_000
    assert "train/a/big.jpg" in tree(sources.local(web.url, tmp_path))
    assert [each.get("range") for each in web.asked] == [None, *(f"bytes={n * 300_000}-" for n in (1, 2, 3))]


def test_a_file_that_changed_meanwhile_is_begun_anew(web: Web, tmp_path: Path) -> None:
    web.cut_after = 300_000
    before = web.body
    answer = web.answer

    def change(handler: BaseHTTPRequestHandler) -> None:
        if len(web.asked) == 1:
            web.etag, web.body, web.cut_after = '"9"', before, 0
        answer(handler)

    web.answer = change  # type: ignore[method-assign]
    assert "train/a/big.jpg" in tree(sources.local(web.url, tmp_path))


def test_a_server_that_gives_no_parts_is_put_up_with_five_times(web: Web, tmp_path: Path) -> None:
    web.cut_after, web.ranges = 1000, False
    with pytest.raises(DataError, match="breaks off again and again"):
        sources.local(web.url, tmp_path)
    assert len(web.asked) <= download.ATTEMPTS + 1


def test_errors_name_the_address_without_its_secrets(web: Web, tmp_path: Path) -> None:
    web.status = 403
    with pytest.raises(DataError, match="answers 403") as caught:
        sources.local(web.url, tmp_path)
    assert "secret" not in str(caught.value)
    with pytest.raises(DataError, match="cannot be reached"):
        sources.local("http://127.0.0.1:9/x.zip", tmp_path)


def test_too_large_and_redirected_elsewhere(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than the limit"):
        sources.local(web.url, tmp_path)
    web.moved_to = "ftp://127.0.0.1/x.zip"
    with pytest.raises(DataError, match="sends us on"):
        sources.local(web.url, tmp_path)


def test_a_page_instead_of_a_zip(web: Web, tmp_path: Path) -> None:
    web.body = b"<html>please log in</html>"
    with pytest.raises(DataError, match="broken zip"):
        sources.local(web.url, tmp_path)
