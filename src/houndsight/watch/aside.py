"""Who watches a process unasked steps aside where its program asks to be watched: `houndsight.debug` and `profile`."""

from collections.abc import Callable

_watching: list[Callable[[], None]] = []


def offer(step_aside: Callable[[], None]) -> None:
    """Let this be called, once, where the program itself asks for a debugger or profiler."""
    _watching.append(step_aside)


def ask() -> None:
    """The program asks for one: whoever watches unasked ends."""
    while _watching:
        _watching.pop()()
