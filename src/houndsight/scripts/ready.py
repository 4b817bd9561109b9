"""Makes a script's process ready to be watched: the watcher's settings as a file, and the variables that name them."""

import os
from pathlib import Path

from houndsight.folders import JobFolder, drop_in
from houndsight.records.rules.named import named
from houndsight.scripts.settings import FILE, VARIABLE, HookSettings
from houndsight.spec import ScriptSpec
from houndsight.workspace import write_json

START = Path(__file__).with_name("start")
"""First on the import path of every script: what arms the watcher."""


def settings_of(job: JobFolder, spec: ScriptSpec) -> HookSettings:
    """How the script of a job is watched."""
    # By importing what reads SageMaker's configuration only where one was given: most jobs have none.
    changes = {}
    if spec.hook_config is not None:
        from houndsight.scripts.hookconfig import from_sagemaker

        changes["debug"] = from_sagemaker(spec.hook_config)
    return HookSettings(
        folder=str(job.path),
        off=spec.debug == "off",
        rules=named(spec.rules).debugger,
        on_finding=spec.on_finding,
        profile_interval=spec.profile_interval,
        hook_config=spec.hook_config,
        **changes,
    )


def make(job: JobFolder, spec: ScriptSpec) -> dict[str, str]:
    """Write the settings; returns the variables that the script's process needs beside its others."""
    path = job.input / "config" / FILE
    write_json(path, settings_of(job, spec))
    return {VARIABLE: str(path)}


def on_path(paths: list[str]) -> str:
    """PYTHONPATH of a script whose own places are these."""
    return os.pathsep.join([str(START), str(drop_in()), *paths])
