"""From the bytes that a script prints to the job's log and to whole lines for the metrics, in the order they came.

Lines go into the log as they came. A progress bar that rewrites its line (tqdm, ten times a second) is written at most
every five seconds and when it ends: 1.2 KB a second would be 4 MB an hour.
"""

import codecs
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LONGEST = 4096
"""Characters at the beginning of a line in which metrics and failures are looked for."""
PROGRESS_SECONDS = 5.0
_IDLE_SECONDS = 1.0
_FULL = 65536
_ENDS = re.compile(r"[\r\n]")


@dataclass
class LineTap:
    """Cuts a stream of bytes into lines and writes it into the log.

    `write` is given text for the log. CR, LF and CR LF end a line; bytes that are no UTF-8 become U+FFFD.
    """

    write: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )
    _held: str = ""  # a \r whose next character is not there yet
    _head: str = ""  # the first LONGEST characters of the line
    _unwritten: str = ""  # what of the line is not in the log
    _begun: bool = False  # a part of the line is in the log
    _rewritten: bool = False  # the line took the place of another
    _last_dropped: str = ""
    _wrote_progress: float = float("-inf")
    _fed: float = float("-inf")

    def feed(self, data: bytes) -> list[str]:
        """Take in what was read; returns the lines that ended in it, without their ends, at most `LONGEST` long."""
        self._fed = self.clock()
        text = (self._held + self._decoder.decode(data)).replace("\r\n", "\n")
        self._held = ""
        if text.endswith("\r"):
            text, self._held = text[:-1], "\r"
        lines, start = [], 0
        for end in _ENDS.finditer(text):
            self._take(text[start : end.start()])
            if self._head or end[0] == "\n":
                lines.append(self._head)
            self._finish(rewritten=end[0] == "\r")
            start = end.end()
        self._take(text[start:])
        return lines

    def idle(self) -> None:
        """Called while nothing comes: a line that stays unfinished is shown as far as it is."""
        if not self._unwritten:
            return
        now = self.clock()
        since = self._wrote_progress + PROGRESS_SECONDS if self._rewritten else self._fed + _IDLE_SECONDS
        if now >= since:
            self._wrote_progress = now
            self._put()

    def close(self) -> list[str]:
        """End the stream: what is left becomes the last line."""
        lines = self.feed(self._decoder.decode(b"", final=True).encode() + (b"\n" if self._held else b""))
        if self._head:
            lines.append(self._head)
        if self._head or self._begun:
            self._finish(rewritten=False)
        elif self._last_dropped:
            self.write(self._last_dropped + "\n")
        self._last_dropped = ""
        return lines

    def _take(self, piece: str) -> None:
        if len(self._head) < LONGEST:
            self._head += piece[: LONGEST - len(self._head)]
        self._unwritten += piece
        if len(self._unwritten) > _FULL:
            self._put()

    def _put(self) -> None:
        self.write(self._unwritten)
        self._begun, self._unwritten = True, ""

    def _finish(self, *, rewritten: bool) -> None:
        now = self.clock()
        if not rewritten or self._begun:
            self.write(self._unwritten + "\n")
            self._last_dropped = ""
        elif self._head.strip() and now >= self._wrote_progress + PROGRESS_SECONDS:
            self.write(self._unwritten + "\n")
            self._wrote_progress, self._last_dropped = now, ""
        elif self._head.strip():
            self._last_dropped = self._unwritten
        self._head, self._unwritten, self._begun, self._rewritten = "", "", False, rewritten
