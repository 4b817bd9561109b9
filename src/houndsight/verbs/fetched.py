"""What of a script job lies elsewhere, as folders on this machine: channels and archives of code; before its spec."""

import hashlib
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path

from houndsight.contract.check import is_elsewhere
from houndsight.data import sources
from houndsight.data.archives import content_hash, locked
from houndsight.errors import ModelError, SpecError
from houndsight.serving.modeldir import fill
from houndsight.workspace import Progress, friendly_disk_errors, remove_tree

log = logging.getLogger("houndsight")

ARCHIVES = (".tar.gz", ".tgz", ".tar")
"""How the name of packed code ends, as the SageMaker SDK packs it (sourcedir.tar.gz)."""


def channels(given: Mapping[str, str], cache: Path, progress: Progress | None = None) -> dict[str, str]:
    """The folders of these channels; what is on S3 is copied as it is, a zip from elsewhere is unpacked.

    Each is done once and brought up to date when asked for again. Raises `DataError`.
    """
    found = {}
    for name, address in given.items():
        if is_elsewhere(address):
            log.info("Fetching the channel '%s'.", name)
        found[name] = _channel(address, cache, progress)
    return found


def _channel(address: str, cache: Path, progress: Progress | None) -> str:
    if address.startswith("s3://"):
        return str(sources.copied(address, cache, progress).absolute())
    return str(sources.local(address, cache, progress).absolute()) if is_elsewhere(address) else address


def code(source: str, cache: Path) -> Path:
    """The folder of code that `source` means: a folder, a .tar.gz of one, or either on S3.

    An archive is unpacked member by member under limits, once per content. Raises `SpecError` for a broken or hostile
    one, `DataError` for an address that does not answer.
    """
    path = Path(source.removeprefix("file://")).expanduser().absolute()
    if source.startswith("s3://"):
        path = sources.copied(source, cache).absolute()
        single = path / source.rsplit("/", 1)[-1]
        path = single if source.endswith(ARCHIVES) and single.is_file() else path
    elif "://" in source:
        raise SpecError(f"source_dir: '{source}' is no folder.", "Give a folder, a .tar.gz, or an s3 address of one.")
    return _unpacked(path, cache) if path.name.endswith(ARCHIVES) and path.is_file() else path


def _unpacked(archive: Path, cache: Path) -> Path:
    key = hashlib.sha256(f"{archive.name} {content_hash(archive)}".encode()).hexdigest()[:24]
    place = cache / "sources" / key
    with locked(place.with_name(f".{key}.lock")), friendly_disk_errors(place):
        if not place.is_dir():
            staged = place.with_name(f".{key}.{secrets.token_hex(4)}")
            try:
                fill(archive, staged)
                staged.rename(place)
            except ModelError as error:
                raise SpecError(
                    f"source_dir: {error.message}", "Pack it again: the script and what it imports at the top."
                ) from error
            finally:
                remove_tree(staged)
    return place


def server(endpoint: str | None) -> dict[str, str]:
    """The variables by which a script's own libraries find an S3 server (boto3, the AWS tools; s3fs); raises
    `SpecError` for what is no address.
    """
    if endpoint is None:
        return {}
    if not endpoint.startswith(("http://", "https://")):
        raise SpecError(f"s3_endpoint: '{endpoint}' is no address.", "Write http://HOST:PORT.")
    return {"AWS_ENDPOINT_URL_S3": endpoint, "FSSPEC_S3_ENDPOINT_URL": endpoint}
