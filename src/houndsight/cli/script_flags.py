"""The flags of commands that run scripts: what a script is given, and how it is watched."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from houndsight.cli.flags import AllowRequirements, OptMl, S3Endpoint, TrustPickle
from houndsight.errors import SpecError


@Parameter(name="*")
@dataclass(frozen=True)
class Surroundings:
    """What a script is given beside its data."""

    opt_ml: OptMl = "auto"
    allow_requirements: AllowRequirements = False
    trust_pickle: TrustPickle = False
    s3_endpoint: S3Endpoint = None
    checkpoint_config: Annotated[
        str | None, Parameter(metavar="FILE", help="SageMaker's CheckpointConfig as JSON, for the script to read.")
    ] = None

    def settings(self) -> dict[str, Any]:
        """As `houndsight.run` takes them."""
        return {**vars(self), "checkpoint_config": _document("checkpoint-config", self.checkpoint_config)}


@Parameter(name="*")
@dataclass(frozen=True)
class Watching:
    """How a script is watched."""

    debug: Annotated[
        str,
        Parameter(metavar="WORD", help="Watch the script's training, which is not changed by it: auto, off. [auto]"),
    ] = "auto"
    hook_config: Annotated[
        str | None, Parameter(metavar="FILE", help="SageMaker's DebugHookConfig as JSON: what is saved, and when.")
    ] = None
    rule: Annotated[
        list[str] | None,
        Parameter(
            metavar="NAME[:P=V]",
            help="Ask a rule differently (name:parameter=value) or not (name:off); SageMaker's names are known, too.",
        ),
    ] = None
    on_finding: Annotated[
        str,
        Parameter(metavar="WORD", help="When a rule finds something: none, stop, stop:warning, or a command. [none]"),
    ] = "none"
    profile_interval: Annotated[
        float, Parameter(metavar="SECONDS", help="Time between two samples of the machine, 0.1 to 60. [0.5]")
    ] = 0.5

    def settings(self) -> dict[str, Any]:
        """As `houndsight.run` takes them."""
        return {
            "debug": self.debug,
            "hook_config": _document("hook-config", self.hook_config),
            "rules": tuple(self.rule or ()),
            "on_finding": self.on_finding,
            "profile_interval": self.profile_interval,
        }


SURROUNDINGS, WATCHING = Surroundings(), Watching()


def _document(flag: str, path: str | None) -> dict[str, Any] | None:
    """The JSON object in a file; raises `SpecError` where there is none."""
    if path is None:
        return None
    try:
        found = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"--{flag} {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise SpecError(f"--{flag} {path} is no JSON: {error}.") from None
    if not isinstance(found, dict):
        raise SpecError(f"--{flag} {path} holds no JSON object.", 'Write {"CollectionConfigurations": [...]}.')
    return found
