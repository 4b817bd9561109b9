"""List, fetch and put objects of S3 or of anything that speaks its language; the only door to boto3 for data.

boto3 reads the credentials and `AWS_ENDPOINT_URL_S3` as everywhere. A prefix `dog` means the object `dog` or what
lies below `dog/`, never `dog-hpo`.
"""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from houndsight.errors import DataError, DependencyError

log = logging.getLogger("houndsight")

Progress = Callable[[str, int, int], None]

WORKERS = 16
"""Objects fetched at once: pictures are small, so the time goes into waiting for answers."""
ATTEMPTS = 5
_BLOCK = 1 << 18
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_SERVER: ContextVar[str] = ContextVar("_SERVER", default="")
_ADDRESS = re.compile(r"s3://([^/]+)(?:/(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Object:
    """One object below a prefix."""

    key: str
    path: str
    """Relative to the prefix; the last part of the key for the object that is the prefix itself."""
    size: int
    etag: str
    """As S3 gives it: the md5 of the contents, except of what came in several parts or is encrypted by KMS."""
    changed: float
    """When it was written, in seconds since the epoch."""


def parse(address: str) -> tuple[str, str]:
    """(bucket, key) of `s3://bucket/key`, the key without slashes at its ends; raises `DataError`."""
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise DataError(f"'{address}' is no S3 address.", "Write s3://bucket/prefix.")
    return match[1], (match[2] or "").strip("/")


@contextmanager
def at(server: str | None) -> Iterator[None]:
    """Within the block, S3 is the server at this address; None changes nothing."""
    token = _SERVER.set(server or _SERVER.get())
    try:
        yield
    finally:
        _SERVER.reset(token)


def endpoint() -> str:
    """The address of the server where it is not Amazon's, else nothing."""
    return _SERVER.get() or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def connect() -> Any:
    """A client of boto3; without any credentials at hand it asks as anybody, which public buckets allow."""
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise DependencyError("S3 needs the package boto3.", "pip install 'houndsight[s3]'") from error
    options: dict[str, Any] = {
        "retries": {"max_attempts": ATTEMPTS, "mode": "standard"},
        "max_pool_connections": WORKERS,
        "connect_timeout": 10,
        "read_timeout": 60,
        # Asked for by `_append` where it holds: rclone sends the whole object's checksum with a part of it.
        "response_checksum_validation": "when_required",
    }
    # Other servers than Amazon's seldom have a name for each bucket.
    options |= {"s3": {"addressing_style": "path"}} if endpoint() else {}
    try:
        session = boto3.session.Session()
        if session.get_credentials() is None:
            log.info("No AWS credentials at hand: asking as anybody.")
            options["signature_version"] = UNSIGNED
        return session.client("s3", config=Config(**options), endpoint_url=_SERVER.get() or None)
    except (BotoCoreError, ValueError) as error:
        raise DataError(f"S3 cannot be set up: {error}", "Check AWS_ENDPOINT_URL_S3 and ~/.aws/config.") from error


def objects(address: str, client: Any = None) -> list[Object]:
    """Everything that `address` means, by key; folder markers left out. Raises `DataError` where there is nothing."""
    bucket, key = parse(address)
    client = client or connect()
    found = []
    with _friendly(address):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{key}/" if key else "")
        for page in pages:
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):
                    below = entry["Key"][len(key) + 1 :] if key else entry["Key"]
                    found.append(_object(address, entry["Key"], below, entry))
        if not found and key:
            page = client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
            exact = (entry for entry in page.get("Contents", ()) if entry["Key"] == key)
            found += [_object(address, key, key.rsplit("/", 1)[-1], entry) for entry in exact]
    if not found:
        raise DataError(f"There is nothing at {address}.", "Check bucket and prefix: aws s3 ls " + address)
    return found


def _object(address: str, key: str, path: str, entry: dict[str, Any]) -> Object:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path or "//" in path:
        raise DataError(f"{address} holds the key {key!r}, which is no path of a file.", "Rename or remove it.")
    return Object(key, path, int(entry["Size"]), entry.get("ETag", ""), entry["LastModified"].timestamp())


def fetch(address: str, folder: Path, *, progress: Progress | None = None, workers: int = WORKERS) -> Path:
    """Make `folder` hold exactly what lies at `address`; what is there already and unchanged is not fetched again.

    Every file appears whole or not at all, an interrupted one goes on where it stopped, and each is verified by its
    size and, where the ETag is one, its md5. `progress` is told ("fetch", bytes, bytes). Raises `DataError`.
    """
    client = connect()
    bucket, _ = parse(address)
    wanted = objects(address, client)
    _remove_others(folder, {each.path for each in wanted})
    missing = [each for each in wanted if not _is_here(folder, each)]
    size = sum(each.size for each in missing)
    folder.mkdir(parents=True, exist_ok=True)
    if size > shutil.disk_usage(folder).free:
        raise DataError(f"{address} holds {size / 1e9:.1f} GB to be fetched: more than the disk of {folder} has.")
    done = sum(each.size for each in wanted) - size
    total = done + size
    pool = ThreadPoolExecutor(max_workers=max(1, workers))
    try:
        with _friendly(address):
            for fetched in pool.map(lambda each: _fetch(client, bucket, each, folder), missing):
                done += fetched
                if progress:
                    progress("fetch", done, total)
    finally:
        pool.shutdown(cancel_futures=True)
    return folder


def _is_here(folder: Path, wanted: Object) -> bool:
    """Whether the file has the object's size and, given to it when it was verified, its time."""
    try:
        status = (folder / wanted.path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return status.st_size == wanted.size and abs(status.st_mtime - wanted.changed) < 0.001


def _remove_others(folder: Path, wanted: set[str]) -> None:
    """Remove files that are not at the address any more: they would be trained on. Begun ones stay."""
    for place in list(folder.rglob("*")):
        begun = place.name.startswith(".") and place.suffix == ".part"
        if place.relative_to(folder).as_posix() not in wanted and not begun and not place.is_dir():
            place.unlink()


def _fetch(client: Any, bucket: str, wanted: Object, folder: Path) -> int:
    """Fetch one object; returns its size. A line that breaks is taken up again, five times without a new byte."""
    from botocore.exceptions import (
        FlexibleChecksumError,
        IncompleteReadError,
        ReadTimeoutError,
        ResponseStreamingError,
    )

    place = folder / wanted.path
    mark = hashlib.sha256(f"{wanted.etag} {wanted.size}".encode()).hexdigest()[:8]
    part = place.with_name(f".{hashlib.sha256(place.name.encode()).hexdigest()[:16]}.{mark}.part")
    place.parent.mkdir(parents=True, exist_ok=True)
    broken = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            answer = _append(client, bucket, wanted, part)
            break
        except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
            broken = 0 if part.stat().st_size > before else broken + 1
            if broken == ATTEMPTS:
                raise
        except FlexibleChecksumError:
            part.unlink()
            raise
    _verify(wanted, part, answer)
    os.utime(part, (wanted.changed, wanted.changed))
    part.replace(place)
    return wanted.size


def _append(client: Any, bucket: str, wanted: Object, part: Path) -> dict[str, Any]:
    start = part.stat().st_size if part.is_file() else 0
    if start >= wanted.size:
        start = 0
    more = {"Range": f"bytes={start}-"} if start else {"ChecksumMode": "ENABLED"}
    answer: dict[str, Any] = client.get_object(Bucket=bucket, Key=wanted.key, IfMatch=wanted.etag, **more)
    with open(part, "ab" if start else "wb") as file:
        file.writelines(answer["Body"].iter_chunks(_BLOCK))
    return answer


def _verify(wanted: Object, part: Path, answer: dict[str, Any]) -> None:
    """Compare size and md5; an ETag is no md5 with a dash in it (several parts) or under KMS or customer keys."""
    size = part.stat().st_size
    match = _MD5.fullmatch(wanted.etag)
    plain = answer.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in answer
    if size == wanted.size and (not match or not plain or _md5(part) == match[1]):
        return
    part.unlink()
    raise DataError(
        f"{wanted.key} did not arrive as it is stored ({size:,} of {wanted.size:,} bytes).", "Type the same again."
    )


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def put(path: Path, address: str) -> None:
    """Store a file at `address`, or a folder's files below it. Raises `DataError`."""
    bucket, key = parse(address)
    client = connect()
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    with _friendly(address):
        for file in files:
            below = f"{key}/{file.relative_to(path).as_posix()}".lstrip("/") if path.is_dir() else key
            client.upload_file(str(file), bucket, below)


@contextmanager
def _friendly(address: str) -> Iterator[None]:
    """Say in one sentence what S3, or the way to it, refused."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        said = error.response.get("Error", {}).get("Message", "")
        repair = _REPAIRS.get(code, "Check the address, the credentials and AWS_ENDPOINT_URL_S3.")
        raise DataError(f"{address}: the server says {code} {said}".strip() + ".", repair) from error
    except NoCredentialsError as error:
        raise DataError(f"{address}: no AWS credentials at hand.", _REPAIRS["AccessDenied"]) from error
    except (BotoCoreError, Boto3Error) as error:
        raise DataError(f"{address}: {error}.", "Check the connection and AWS_ENDPOINT_URL_S3.") from error


_REPAIRS = {
    "NoSuchBucket": "Check the bucket's name: aws s3 ls",
    "AccessDenied": "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, to an account that may read it.",
    "403": "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, to an account that may read it.",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY is not the one of AWS_ACCESS_KEY_ID.",
    "InvalidAccessKeyId": "Check AWS_ACCESS_KEY_ID.",
    "PreconditionFailed": "It was changed meanwhile: type the same again.",
}
