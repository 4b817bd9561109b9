"""The folders of `/opt/ml` inside a job's folder and the files of its configuration; what a script finds at its start.

| SageMaker              | here                                                          |
|------------------------|---------------------------------------------------------------|
| /opt/ml/code           | code/: a copy of the source folder, made once                 |
| /opt/ml/input/config   | input/config/: hyperparameters, inputdataconfig, resourceconfig, ... |
| /opt/ml/input/data/X   | input/data/X: a link to the channel's folder                  |
| /opt/ml/model          | model/, packed into output/model.tar.gz                       |
| /opt/ml/output/data    | output/data/, packed into output/output.tar.gz                |
| /opt/ml/checkpoints    | checkpoints/: the only one that outlives a second start       |
"""

import os
import shutil
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from houndsight.contract.arguments import as_sent
from houndsight.contract.source import copy_source
from houndsight.folders import JobFolder
from houndsight.spec import ScriptSpec
from houndsight.workspace import friendly_disk_errors, remove_tree, write_json

HOST = "algo-1"
GROUP = "homogeneousCluster"
LOG_LEVEL = 20
_SOCKET_ROOM = 70
"""Longest folder of temporary files: multiprocessing and torch put sockets into it under names of 34 characters,
and a socket's path has room for 104 (macOS) or 108 of them."""


def config_folder(job: JobFolder) -> Path:
    """Folder of the three JSON files."""
    return job.input / "config"


def data_folder(job: JobFolder) -> Path:
    """Folder of the channels."""
    return job.input / "data"


def output_data(job: JobFolder) -> Path:
    """Folder of what the script writes beside its model."""
    return job.output / "data"


def intermediate(job: JobFolder) -> Path:
    """Folder that SageMaker would copy away while the script runs."""
    return job.output / "intermediate"


def success(job: JobFolder) -> Path:
    """Empty file of a script that ended well."""
    return job.output / "success"


def prepare(job: JobFolder, spec: ScriptSpec, region: str, interface: str) -> dict[str, Any]:
    """Make every folder and file that the script relies on; returns the contents of the configuration by name.

    What an earlier start of the job left behind goes, except its code and its checkpoints.
    """
    with friendly_disk_errors(job.path):
        for left in (job.input, job.model, job.output):
            remove_tree(left)
        for folder in (config_folder(job), data_folder(job), job.model, output_data(job), intermediate(job)):
            folder.mkdir(parents=True)
        job.checkpoints.mkdir(exist_ok=True)
        if not job.code.is_dir():
            copy_source(spec, job)
        for channel, folder_of_data in spec.channels.items():
            (data_folder(job) / channel).symlink_to(folder_of_data, target_is_directory=True)
    config = configuration(job, spec, region, interface)
    for name, document in config.items():
        write_json(config_folder(job) / f"{name}.json", document)
    return config


def configuration(job: JobFolder, spec: ScriptSpec, region: str, interface: str) -> dict[str, Any]:
    """The three documents of the configuration as SageMaker writes them for a job on one host."""
    own = {
        "sagemaker_program": spec.entry_point,
        "sagemaker_submit_directory": str(job.code),
        "sagemaker_container_log_level": LOG_LEVEL,
        "sagemaker_job_name": job.name,
        "sagemaker_region": region,
    }
    channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    group = {"instance_group_name": GROUP, "instance_type": spec.instance_type, "hosts": [HOST]}
    return {
        "hyperparameters": as_sent({**spec.hyperparameters, **own}),
        "inputdataconfig": {name: dict(channel) for name in spec.channels},
        "resourceconfig": {
            "current_host": HOST,
            "current_instance_type": spec.instance_type,
            "current_group_name": GROUP,
            "hosts": [HOST],
            "instance_groups": [group],
            "network_interface_name": interface,
        },
        **_further(spec),
    }


def _further(spec: ScriptSpec) -> dict[str, Any]:
    """The documents that are there only where they were asked for: of the debugger, the profiler and checkpoints."""
    found: dict[str, Any] = {}
    if spec.hook_config is not None:
        found["debughookconfig"] = spec.hook_config
    if "profile_interval" in spec.model_fields_set:
        found["profilerconfig"] = {"ProfilingIntervalInMilliseconds": round(1000 * spec.profile_interval)}
    if spec.checkpoint_config is not None:
        found["checkpointconfig"] = {"LocalPath": "/opt/ml/checkpoints", **spec.checkpoint_config}
    return found


def scratch_folder(job: JobFolder) -> Path:
    """Where the script's temporary files go: in the job, or beside other temporary files where the path is too long.

    The name depends on the job alone, so that a second start clears what a killed first one left.
    """
    if len(os.fsencode(job.scratch)) <= _SOCKET_ROOM:
        return job.scratch
    name = sha256(os.fsencode(job.path.absolute())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"houndsight-{os.getuid()}-{name}"


def make_scratch(job: JobFolder) -> Path:
    """Make the empty folder of temporary files, for this user alone."""
    folder = scratch_folder(job)
    with friendly_disk_errors(folder.parent):
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    return folder
