"""Every error a user can meet, as one tree; the lowest file of the house.

HoundsightError
├── RequestError            the request was wrong: exit code 2
│   ├── SpecError           a setting, or several at once
│   ├── DataError           the images and labels that were given
│   ├── ImageError          one image that cannot be read as it is
│   ├── ModelError          a backbone, weights file or artifact
│   ├── WorkspaceError      a job that is not there, is there already, or cannot be written
│   └── DependencyError     an optional package that is not installed
└── JobError                the job itself failed while it ran: exit code 1
├── NonFiniteLossError  a loss that is NaN or infinite, before the optimizer step
└── DiskFullError       no room left in the middle of a run
"""

from collections.abc import Iterable
from difflib import get_close_matches


class HoundsightError(Exception):
    """What was wrong and where (`message`), and what to do about it (`repair`)."""

    exit_code = 1

    def __init__(self, message: str, repair: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.repair = repair

    def __str__(self) -> str:
        return f"{self.message} {self.repair}".strip()

    @property
    def kind(self) -> str:
        """The class name: what `--json` reports as `error.kind`."""
        return type(self).__name__

    def document(self) -> dict[str, str]:
        """The error as `--json` prints it under the key `error`."""
        return {"kind": self.kind, "message": self.message, "repair": self.repair}


class RequestError(HoundsightError):
    """The request was wrong; nothing was started and nothing half-written stays behind."""

    exit_code = 2


class SpecError(RequestError):
    """One or more settings that cannot be honoured, all named at once."""


class DataError(RequestError):
    """The data cannot be trained on or evaluated as it was given."""


class ImageError(RequestError):
    """One image that cannot be decoded; `message` is the reason without the path."""


class ModelError(RequestError):
    """An unknown backbone, weights that do not fit, or a broken artifact."""


class WorkspaceError(RequestError):
    """A job that does not exist or exists already, or a workspace that cannot be written."""


class DependencyError(RequestError):
    """An optional package is missing; `repair` is the exact install line."""


class JobError(HoundsightError):
    """The job failed while it ran."""


class NonFiniteLossError(JobError):
    """The loss became NaN or infinite; raised before the optimizer step, so the weights are still sound."""


class DiskFullError(JobError):
    """The disk filled up in the middle of a run."""


_TREE: dict[str, type[HoundsightError]] = {
    each.__name__: each
    for each in (
        HoundsightError,
        RequestError,
        SpecError,
        DataError,
        ImageError,
        ModelError,
        WorkspaceError,
        DependencyError,
        JobError,
        NonFiniteLossError,
        DiskFullError,
    )
}


def from_document(document: dict[str, str]) -> HoundsightError:
    """The error that `HoundsightError.document` described, so that it can cross a process border."""
    kind = _TREE.get(document.get("kind", ""), JobError)
    return kind(document.get("message", ""), document.get("repair", ""))


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names in `known` most like `word`, best first; empty where none is close."""
    names = {name.casefold(): name for name in known}
    return [names[hit] for hit in get_close_matches(word.casefold(), list(names), n=count, cutoff=0.6)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence `Did you mean 'a' or 'b'?`, or nothing where no known name is close."""
    hits = nearest(word, known)
    return f"Did you mean {' or '.join(repr(hit) for hit in hits)}?" if hits else ""
