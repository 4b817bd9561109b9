"""Fetches a zip over http(s) into the cache, going on where it was interrupted; beneath `data.sources`.

<cache>/downloads/<sha256 of the address>.zip        the archive, whole
<cache>/downloads/<sha256 of the address>.zip.json   the server's mark of it (ETag or date), to ask for news
<cache>/downloads/<sha256 of the address>.zip.part   what has come so far, and .part.json the mark it came with
"""

import hashlib
import http.client
import json
import logging
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from houndsight.data.archives import locked
from houndsight.errors import DataError
from houndsight.workspace import Progress, friendly_disk_errors, write_json

log = logging.getLogger("houndsight")

MAX_BYTES = 100 << 30
"""Size above which a download is refused."""
TIMEOUT = 30.0
"""Seconds without a byte after which the server is given up."""
ATTEMPTS = 5
"""Breaks in the line without a single new byte that are put up with."""
_BLOCK = 1 << 18


def fetched(url: str, cache: Path, progress: Progress | None = None) -> Path:
    """The file at `url`, from the cache where the server says that it has not changed since.

    Raises `DataError` for an address that does not answer, answers with an error, or sends more than 100 GiB.
    """
    folder = cache / "downloads"
    final = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.zip"
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(final.with_suffix(".lock")):
            for attempt in range(ATTEMPTS):
                if _attempt(url, final, progress):
                    return final
                log.info("%s: the line broke (%d of %d); going on.", _shown(url), attempt + 1, ATTEMPTS)
    raise DataError(f"{_shown(url)} breaks off again and again.", "Type the same again to go on where it stopped.")


def _attempt(url: str, final: Path, progress: Progress | None) -> bool:
    """Ask once; True when the file is whole (or unchanged), False when the line broke. New bytes make it go on here."""
    part = final.with_name(f"{final.name}.part")
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            with _open(url, final, part) as answer:
                _receive(url, answer, part, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.client.NOT_MODIFIED:
                return True
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                part.unlink()
                continue
            raise DataError(f"{_shown(url)} answers {error.code} {error.reason}.", "Check the address.") from None
        except (http.client.HTTPException, ConnectionError, TimeoutError):
            if part.is_file() and part.stat().st_size > before:
                continue
            return False
        except urllib.error.URLError as error:
            raise DataError(f"{_shown(url)} cannot be reached: {error.reason}.", "Check the address.") from None
        part.replace(final)
        write_json(_mark_of(final), _read_mark(part))
        _mark_of(part).unlink()
        return True


def _open(url: str, final: Path, part: Path) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "houndsight", "Accept-Encoding": "identity"})  # noqa: S310
    whole, partly = _read_mark(final), _read_mark(part)
    if part.is_file() and partly:
        request.add_header("Range", f"bytes={part.stat().st_size}-")
        request.add_header("If-Range", partly.get("ETag") or partly["Last-Modified"])
    elif final.is_file() and whole:
        for name, condition in (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")):
            if name in whole:
                request.add_header(condition, whole[name])
    # The scheme is http or https by `sources`, and by the handlers below after every redirection.
    answer: http.client.HTTPResponse = _OPENER.open(request, timeout=TIMEOUT)
    return answer


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirections to http and https alone."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """As ever, but not to ftp."""
        if urlsplit(newurl).scheme not in ("http", "https"):
            fp.close()
            raise DataError(f"The server sends us on to {newurl}.", "Download it yourself and give the file.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_WebOnly)


def _receive(url: str, answer: http.client.HTTPResponse, part: Path, progress: Progress | None) -> None:
    """Append (206) or write anew (200) to `part`; raises `IncompleteRead` where less came than was announced."""
    going_on = answer.status == http.client.PARTIAL_CONTENT
    done = part.stat().st_size if going_on else 0
    announced = answer.headers.get("Content-Length")
    total = done + int(announced) if announced and announced.isdigit() else 0
    if total > MAX_BYTES:
        raise DataError(f"{_shown(url)} is {total / 1e9:.0f} GB, more than the limit of {MAX_BYTES >> 30} GiB.")
    if total - done > shutil.disk_usage(part.parent).free:
        raise DataError(f"{_shown(url)} is {total / 1e9:.1f} GB: more than the disk of {part.parent} has.")
    if not going_on:
        write_json(_mark_of(part), {name: answer.headers[name] for name in _MARKS if answer.headers.get(name)})
    with open(part, "ab" if going_on else "wb") as file:
        while block := answer.read(_BLOCK):
            done += len(block)
            if done > MAX_BYTES:
                raise DataError(f"{_shown(url)} sends more than the limit of {MAX_BYTES >> 30} GiB.")
            file.write(block)
            if progress:
                progress("download", done, total)
    if total and done < total:
        raise http.client.IncompleteRead(b"", total - done)


_MARKS = ("ETag", "Last-Modified")


def _mark_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_mark(path: Path) -> dict[str, str]:
    """The marks that came with the file; none where there is no file, or a weak ETag that promises no bytes."""
    try:
        held = json.loads(_mark_of(path).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: value for name, value in held.items() if not value.startswith("W/")}


def _shown(url: str) -> str:
    """The address without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
