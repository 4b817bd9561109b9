"""Why a script failed, out of what it printed, in the words of SageMaker's FailureReason."""

import builtins
import re
import signal
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

MOST = 1024
"""Characters of a FailureReason."""
HEAD = "AlgorithmError: ExecuteUserScriptError:"
"""How the toolkit's own words begin."""
MOST_ERROR = 300
"""Characters of the line for people."""
_MOST_COMMAND = 300
_HEADER = "Traceback (most recent call last):"
_JOINTS = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+)')
_STALE = 50
"""Lines after a traceback that make it an old one: the script went on."""


@dataclass
class FailureText:
    """Remembers the last traceback, with what it was caused by, and the last lines of the output."""

    chain: list[str] = field(default_factory=list)
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=10))
    _after: int = 0
    _joined: bool = False
    _ended: bool = False

    def scan(self, lines: Iterable[str]) -> None:
        """Take in lines in the order they were printed."""
        for line in lines:
            if line.strip():
                self._tail.append(line)
            if line.strip() == _HEADER:
                self.chain = [*self.chain, line] if self._joined else [line]
                self._after, self._ended, self._joined = 0, False, False
            elif self.chain:
                self._joined = self._joined or line.strip() in _JOINTS
                self._ended = self._ended or not line.startswith(" ")
                self._after += self._ended
                if self._after <= _STALE and len(self.chain) < 2000:
                    self.chain.append(line)

    @property
    def traceback(self) -> list[str]:
        """The last traceback and what follows it; empty where there is none, or where the script went on after it."""
        return self.chain if self._after <= _STALE else []

    def error_message(self) -> str:
        """From the first line that names an exception on, each line once, as the toolkit does; else the last lines."""
        lines = [line.strip(" :\n") for line in (self.traceback or self._tail)]
        named = next((number for number, line in enumerate(lines) if any(name in line for name in _names())), None)
        if named is None:
            lines, named = (lines[-1:] if self.traceback else lines), 0
        # The toolkit joins the lines with a blank before it drops the repeated ones.
        rows = [*lines[named : named + 1], *(f" {line}" for line in lines[named + 1 :])]
        return "\n".join(dict.fromkeys(rows)).strip()

    def error(self, code: int) -> str:
        """The failure in one line for people: the last exception, else the signal, else the last line of the output."""
        lines = self.traceback
        heads = [number for number, line in enumerate(lines) if line.strip() == _HEADER]
        if heads:
            raised = next((line for line in lines[heads[-1] + 1 :] if line.strip() and not line.startswith(" ")), "")
            if raised:
                return _shortened(raised.strip(), MOST_ERROR)
        if code < 0:
            usual = ", most often for want of memory" if code == -signal.SIGKILL else ""
            return f"The script was killed by {signal.Signals(-code).name} (signal {-code}){usual}."
        said = next(reversed(self._tail), "").strip()
        if not said:
            return f"The script ended with exit code {code} and said nothing."
        return _shortened(said, MOST_ERROR)

    def place(self, code: Path) -> tuple[str, int] | None:
        """File (relative to the script's code) and line of the innermost frame in the script's own code."""
        found = None
        for line in self.traceback:
            match = _FRAME.match(line)
            if match is None:
                continue
            file = code / match["file"]
            if file.is_relative_to(code) and file.is_file():
                found = (file.relative_to(code).as_posix(), int(match["line"]))
        return found

    def reason(self, code: int, command: Sequence[str]) -> str:
        """The text of `output/failure` for an exit code (negative: a signal), at most `MOST` characters."""
        shown, extra = str(code), ""
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            shown, extra = "137", "OutOfMemory: Process killed by SIGKILL (signal 9)"
        elif code < 0:
            extra = f"Process killed by {signal.Signals(-code).name} (signal {-code})"
        head = f'{HEAD}\nExitCode {shown}\nErrorMessage "'
        tail = '"' + (f'\nExtraInfo "{extra}"' if extra else "")
        tail += f'\nCommand "{_shortened(" ".join(command), _MOST_COMMAND)}"'
        message = "" if code < 0 and not self.traceback else self.error_message()
        return head + _shortened(message, MOST - len(head) - len(tail)) + tail


@cache
def _names() -> tuple[str, ...]:
    """What the toolkit looks for: Python's own exceptions, and a few of pip and TensorFlow."""
    own = [name for name in dir(builtins) if "Error" in name or "Exception" in name]
    return (*own, "Invalid requirement", "ResourceExhaustedError", "OutOfRangeError", "InvalidArgumentError")


def _shortened(text: str, most: int) -> str:
    """The text, or its beginning and its end: the kind of the error stands in one, the cause in the other."""
    if len(text) <= most:
        return text
    half = (most - 5) // 2
    return f"{text[:half]} ... {text[-(most - 5 - half) :]}"


def hint(message: str, channels: Iterable[str], neighbours: Iterable[str], asked: Iterable[str] = ()) -> str:
    """What the user can do about a failure, where the text gives it away; else where to look.

    `neighbours` are modules beside the script, `asked` what its requirements.txt names and nobody has installed.
    """
    missing = re.search(r"KeyError: '(SM_CHANNEL_([A-Z0-9_.-]+))'", message)
    if missing is not None:
        known = ", ".join(sorted(channels)) or "none"
        name = missing[2].lower()
        return f"The script reads a channel '{name}' (given: {known}); add --channel {name}=DIR."
    module = re.search(r"No module named '([^'.]+)", message)
    if module is not None:
        return _hint_of_module(module[1], neighbours, list(asked))
    return next((said for words, said in _HINTS if any(each in message for each in words)), _LOOK)


def _hint_of_module(name: str, neighbours: Iterable[str], asked: list[str]) -> str:
    if name in neighbours:
        return f"'{name}' lies beside the script: add --source-dir with the script's folder."
    if asked:
        return f"requirements.txt asks for {', '.join(asked)}: add --allow-requirements to have it installed."
    return f"Install the package of '{name}' in the environment that Houndsight runs in."


_LOOK = "The whole output stands in the job's log."
_HINTS = (
    (
        ("unrecognized arguments",),
        "The script does not know a hyperparameter by that name; its own arguments are what --hp may name.",
    ),
    (
        ("/opt/ml/",),
        "The script names a folder of SageMaker's containers: add --opt-ml always, or have it read SM_CHANNEL_...",
    ),
    (("WeightsNotFoundError", "--trust-pickle"), "Then run it again."),
)
"""Words of a failure -> what to do about it."""
