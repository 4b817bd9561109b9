"""Waits, once torch is imported, for the first optimizer: only a script that trains pays for being watched.

Nothing is imported here but the standard library. Frames of ours are taken out of the traceback of an error that ends
the script, so that it reads as it does without the watcher.
"""

import dis
import json
import linecache
import os
import sys
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
WATCHED = "HOUNDSIGHT_WATCHED"
"""Environment variable: the process that is watched; its children are not."""
_armed: list[tuple[str, int]] = []


def arm(settings: str) -> None:
    """Begin to wait, in a process that has imported torch; `settings` is the path of the job's `houndsight.json`."""
    if _armed:
        return
    _armed.append((settings, os.getpid()))
    torch: Any = sys.modules.get("torch")
    if torch is None or json.loads(Path(settings).read_bytes())["off"]:
        return
    optimizer = torch.optim.Optimizer
    made = optimizer.__init__

    @wraps(made)
    def making(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        if settings_of_this_process() is not None:
            from houndsight.scripts import session

            session.optimizer_made(self)

    optimizer.__init__ = making
    shown = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        cleaned = without_us(error)
        shown(kind, error, cleaned if trace is not None else None)

    sys.excepthook = show


def settings_of_this_process() -> str | None:
    """Where the settings are; None where nothing is armed, and in processes that were forked from the armed one."""
    return _armed[0][0] if _armed and _armed[0][1] == os.getpid() else None


def without_us(error: BaseException, seen: set[int] | None = None) -> TracebackType | None:
    """The traceback of the error without our frames; so too, in place, those of what it came from."""
    seen = seen if seen is not None else set()
    seen.add(id(error))
    for each in (error.__cause__, error.__context__):
        if each is not None and id(each) not in seen:
            without_us(each, seen)
    error.__traceback__ = _cleaned(error.__traceback__)
    return error.__traceback__


def _cleaned(trace: TracebackType | None) -> TracebackType | None:
    frames: list[TracebackType] = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            frames.append(trace)
        trace = trace.tb_next
    after: TracebackType | None = None
    for at in range(len(frames) - 1, -1, -1):
        after = _link(frames, at, after)
    return after


def _link(frames: list[TracebackType], at: int, after: TracebackType | None) -> TracebackType | None:
    """One frame with what comes after it; a module that only our hooks listened to is shown as one without hooks."""
    if at and _hooked(frames[at - 1], frames[at]):
        return after
    frame = frames[at].tb_frame
    if at + 1 < len(frames) and _hooked(frames[at], frames[at + 1]):
        for each in dis.get_instructions(frame.f_code):  # the first call of `forward_call` is the one without hooks
            if each.opname.startswith("CALL") and each.positions and each.positions.lineno:
                line = linecache.getline(frame.f_code.co_filename, each.positions.lineno)
                if "return forward_call(" in line:
                    return TracebackType(after, frame, each.offset, each.positions.lineno)
    return TracebackType(after, frame, frames[at].tb_lasti, frames[at].tb_lineno)


def _hooked(outer: TracebackType, inner: TracebackType) -> bool:
    """Whether these are the two frames in which torch calls a module with hooks, and the module has none any more."""
    code, within = outer.tb_frame.f_code, inner.tb_frame.f_code
    if (code.co_name, within.co_name) != ("_call_impl", "inner") or code.co_filename != within.co_filename:
        return False
    module = vars(outer.tb_frame.f_locals.get("self"))
    return not any(module.get(each) for each in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"))
