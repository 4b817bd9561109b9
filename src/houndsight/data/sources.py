"""Makes a local folder of whatever was given as DATA (a zip, an http(s) or s3 address); stands before the scan."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from houndsight import s3
from houndsight.data.archives import locked, unpacked
from houndsight.data.download import fetched
from houndsight.errors import DataError
from houndsight.workspace import Progress, friendly_disk_errors


def local(data: str, cache: Path, progress: Progress | None = None) -> Path:
    """The folder, or CSV list, on this machine that `data` stands for; a plain path comes back as it was given.

    A `.zip` is unpacked into `cache`, an http(s) address of one is fetched and unpacked, `s3://bucket/prefix` is
    copied. Each is done once and brought up to date when asked for again. Raises `DataError` with the repair.
    """
    scheme = urlsplit(data).scheme.lower() if "://" in data else ""
    if scheme == "s3":
        return _from_s3(data, cache, progress)
    if scheme in ("http", "https"):
        return unpacked(fetched(data, cache, progress), cache, progress)
    if scheme:
        raise DataError(
            f"'{scheme}://' is no source of data.", "Give a folder, a .zip, or an http, https or s3 address."
        )
    path = Path(data)
    if path.suffix.lower() == ".zip" and path.expanduser().is_file():
        return unpacked(path.expanduser(), cache, progress)
    return path


def copied(address: str, cache: Path, progress: Progress | None = None) -> Path:
    """A folder with everything below an s3 address, as it is; brought up to date when asked for again."""
    bucket, key = s3.parse(address)
    place = hashlib.sha256(f"{s3.endpoint()} {bucket} {key}".encode()).hexdigest()[:32]
    folder = cache / "s3" / place
    with friendly_disk_errors(folder), locked(folder.with_name(f".{place}.lock")):
        s3.fetch(address, folder, progress=progress)
    return folder


def _from_s3(address: str, cache: Path, progress: Progress | None) -> Path:
    """A copy of everything below the prefix; of a single `.zip`, what it holds."""
    folder, key = copied(address, cache, progress), s3.parse(address)[1]
    single = folder / key.rsplit("/", 1)[-1]
    if key.lower().endswith(".zip") and single.is_file():
        return unpacked(single, cache, progress)
    return folder
