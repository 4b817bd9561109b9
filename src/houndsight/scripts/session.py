"""The one watcher of a script's process: it finds models, optimizers and losses by itself and writes into the job."""

from typing import Any

from houndsight.scripts.settings import HookSettings
from houndsight.watch.debugger import Debugger
from houndsight.watch.plan import Collection, DebugSpec, Schedule

_session: list["Session"] = []


class Session:
    """From the import of torch to the end of the process."""

    def __init__(self, settings: HookSettings) -> None:
        self.settings = settings
        self.debugger: Debugger | None = None
        """The debugger of the present training; None before a model trains."""
        self.modules: list[Any] = []
        """Models that the script named itself."""
        self.losses: list[Any] = []
        """Losses that the script named itself."""

    def register_module(self, model: Any) -> None:
        """Watch this model; it is called as the script has named it."""
        self.modules.append(model)

    def register_loss(self, module: Any) -> None:
        """Hear the loss that this module computes."""
        self.losses.append(module)

    def set_mode(self, mode: str | None) -> None:
        """Say what follows: `train`, `eval`, `predict` or `global`; None finds out by itself."""
        if self.debugger is not None:
            self.debugger.mode(mode)

    def scalar(self, name: str, value: float) -> None:
        """Record a number of the script's own at the present step."""

    def tensor(self, name: str, value: Any) -> None:
        """Write a tensor of the script's own at the present step, as it is."""

    def add_collection(self, name: str, collection: Collection, schedule: Schedule | None = None) -> None:
        """Take a further collection, by default when the others are taken."""

    def reconfigure(self, spec: DebugSpec) -> None:
        """Take from now on what `spec` says."""

    def close(self) -> None:
        """Let go of everything and write what is left; more than one call is allowed."""


def current() -> Session | None:
    """The session of this process; None outside of jobs, in data workers and in other children of a script."""
    return _session[0] if _session else None
