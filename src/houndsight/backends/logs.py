"""The lines of a job's log as they come; between the job's process and the terminal."""

from codecs import getincrementaldecoder
from collections.abc import Iterator

from houndsight.backends import base
from houndsight.workspace import JobFolder

LOOK_SECONDS = 0.2
"""How often a growing log is looked at."""
BLOCK_BYTES = 1 << 20


def tail(job: JobFolder, follow: bool = False) -> Iterator[str]:
    """Yield the lines of the log without their line ends; with `follow` new ones too, until the job has ended.

    Bytes that are no UTF-8 are shown as the replacement character. A job that nobody has started is not waited for.
    """
    decode = getincrementaldecoder("utf-8")("replace").decode
    position, rest, ended = 0, "", not follow
    while True:
        fresh = _read(job, position)
        while fresh:
            position += len(fresh)
            *lines, rest = (rest + decode(fresh)).split("\n")
            yield from lines
            fresh = _read(job, position)
        if ended:
            break
        ended = _has_ended(job)
    rest += decode(b"", True)
    if rest:
        yield rest


def _has_ended(job: JobFolder) -> bool:
    """Wait a moment for the job's end."""
    now = base.wait_for(job, LOOK_SECONDS)
    return base.idle(now)


def _read(job: JobFolder, position: int) -> bytes:
    try:
        with job.log.open("rb") as file:
            file.seek(position)
            return file.read(BLOCK_BYTES)
    except FileNotFoundError:
        return b""
