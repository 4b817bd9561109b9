"""Where the time of a script's loop goes: clock, hooks and window of the profiler, put to a loop nobody told us of."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from houndsight.records.profiling import run as runs
from houndsight.records.writer import RecordWriter
from houndsight.watch.clock import LoopClock
from houndsight.watch.hooks import Hooks, Onlooker
from houndsight.watch.profiler import pauses
from houndsight.watch.seen import Seen
from houndsight.watch.window import AFTER, Window
from houndsight.workspace import write_json

_MOST_FILES, _MOST_BYTES = 200, 1 << 20

Broke = Callable[[Exception], None]
"""Told of a mistake of ours."""


class WatchedLoop:
    """The clock of a script's loop, from `attach` to `close` or `detach`."""

    def __init__(self, spans: RecordWriter, onlooker: Onlooker, code: Path, broke: Broke) -> None:
        """`spans` takes the parts; `code` is the folder of the script, which may use a profiler of its own."""
        self._spans, self._broke, self._code = spans, broke, code
        self._thread = threading.get_ident()
        self._began = time.time()
        self._stack = ExitStack()
        self._clock = LoopClock(spans)
        self._window: Window | None = None
        self.seen: Seen = _CarefulSeen(broke)
        """What the loop showed of itself."""
        self._hooks = Hooks(
            self._clock, self.seen, on_step=self._stepped, waits=torch.cuda.is_available(), onlooker=onlooker
        )

    def attach(self) -> None:
        """Begin."""
        self._stack.enter_context(pauses(self._spans))
        self._window = Window(self._spans, float("inf") if _profiles(self._code) else AFTER)
        self._stack.callback(self._hooks.detach)
        self._hooks.attach()

    def mine(self) -> bool:
        """Whether this is the thread of the loop."""
        return self._clock.on and threading.get_ident() == self._thread

    def detach(self) -> None:
        """Put everything back as it was; nothing is written."""
        self._clock.on = False
        self._hooks.detach()

    def close(self, folder: Path) -> None:
        """End, and write what is known of the loop."""
        if self._window is not None:
            self._window.close()
        self._stack.close()
        self._clock.close()
        if self._window is not None:
            facts = self.seen.facts(self._clock, self._window)
            self._spans.flush()
            write_json(folder / runs.FACTS, runs.Facts(began=self._began, ended=time.time(), **facts))

    def _stepped(self) -> None:
        if self._window is not None:
            with _Careful(self._broke):
                self._window.step()


class Spans(RecordWriter):
    """The writer of the loop's spans, whose failures are told instead of raised: they would be raised in the script."""

    def __init__(self, folder: Path, broke: Broke, *, on: bool) -> None:
        """Where not `on`, nothing is written."""
        super().__init__(folder)
        self._broke, self._on = broke, on

    def add_span(self, name: str, start: float, seconds: float, step: int) -> None:
        """Record a stretch of time."""
        if self._on:
            with _Careful(self._broke):
                super().add_span(name, start, seconds, step)


class _Careful(AbstractContextManager[None]):
    """Tells of what is raised in it, and lets it go no further."""

    def __init__(self, broke: Broke) -> None:
        self._broke = broke

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, Exception):
            self._broke(error)
            return True
        return False


class _CarefulSeen(Seen):
    """Looks at objects of the script, which may be of any kind."""

    def __init__(self, broke: Broke) -> None:
        super().__init__()
        self._care = _Careful(broke)

    def loader(self, loader: Any, iterator: Any) -> None:
        """A data loader was started."""
        with self._care:
            super().loader(loader, iterator)

    def waiting_for(self, iterator: Any) -> Callable[[], None]:
        """Begin to wait for a batch."""
        with self._care:
            return super().waiting_for(iterator)
        return _nothing

    def module(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A module was called from the loop itself, to train it."""
        with self._care:
            super().module(module, args, kwargs)
            self._last = None  # nothing of the script is called again, so nothing of it is kept alive


def _nothing() -> None:
    """The batch came, from wherever it came."""


def _profiles(code: Path) -> bool:
    """Whether the script may use a profiler itself: torch has one at a time, and it is the script's."""
    for count, (folder, _, files) in enumerate(os.walk(code)):
        if count >= _MOST_FILES:
            return True
        for name in files:
            path = Path(folder) / name
            if path.suffix == ".py" and (path.stat().st_size > _MOST_BYTES or b"profile" in path.read_bytes()):
                return True
    return False
