"""The lines of a log as they come; between the process of a job or an endpoint and the terminal."""

from codecs import getincrementaldecoder
from collections.abc import Iterator

from houndsight.backends import base
from houndsight.folders import EndpointFolder, JobFolder

LOOK_SECONDS = 0.2
"""How often a growing log is looked at."""
BLOCK_BYTES = 1 << 20


class LogLines:
    """Reads a log from its first line on; bytes that are no UTF-8 are shown as the replacement character."""

    def __init__(self, of: JobFolder | EndpointFolder) -> None:
        self._path = of.log
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._position, self._rest = 0, ""

    def fresh(self) -> Iterator[str]:
        """The lines that were ended since the last call, without their line ends."""
        while block := self._read():
            self._position += len(block)
            *lines, self._rest = (self._rest + self._decode(block)).split("\n")
            yield from lines

    def rest(self) -> Iterator[str]:
        """The last line, where the log does not end with a line end; asked for once, when the job has ended."""
        last = self._rest + self._decode(b"", True)
        if last:
            yield last

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                return file.read(BLOCK_BYTES)
        except FileNotFoundError:
            return b""


def tail(job: JobFolder, follow: bool = False) -> Iterator[str]:
    """Yield the lines of the log; with `follow` new ones too, until the job has ended.

    A job that nobody has started is not waited for.
    """
    lines, ended = LogLines(job), not follow
    yield from lines.fresh()
    while not ended:
        ended = base.idle(base.wait_for(job, LOOK_SECONDS))
        yield from lines.fresh()
    yield from lines.rest()
