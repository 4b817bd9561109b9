"""What the watcher of a script's process is told, as one JSON file beside the job's configuration."""

from typing import Any

from pydantic import Field

from houndsight.spec import Frozen
from houndsight.watch.plan import DebugSpec

FILE = "houndsight.json"
"""Its name in the job's folder of configuration."""
VARIABLE = "HOUNDSIGHT_HOOK"
"""Environment variable of a script's process: path of that file. Without it nothing is watched."""


class HookSettings(Frozen):
    """How a script is watched."""

    folder: str
    """The job's folder."""
    off: bool = False
    """Watch nothing; a hook of `smdebug` that the script makes saves nothing either."""
    debug: DebugSpec = DebugSpec()
    """What is taken of the training, when, and at what cost."""
    rules: tuple[str, ...] = ()
    """Rules that are asked differently, `name:parameter=value` or `name:off`."""
    on_finding: str = "none"
    """What is done about a finding: `none`, `stop`, `command:...`."""
    profile: bool = True
    """Whether the time of the training's steps is divided into parts."""
    profile_interval: float = Field(default=0.5, ge=0.1, le=60.0)
    """Seconds between two samples of the machine."""
    hook_config: dict[str, Any] | None = None
    """SageMaker's DebugHookConfig as it was given."""
