"""What a script finds in its environment: the SM_* variables of the toolkit, and what a job needs of the caller's."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from houndsight.contract import layout
from houndsight.contract.arguments import arguments, as_read, split, variable
from houndsight.folders import JobFolder
from houndsight.scripts import hub, ready
from houndsight.spec import ScriptSpec

PASSED_ON = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "XDG_CACHE_HOME"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV"),
        *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
        *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("PYTHONHASHSEED", "PYTHONWARNINGS", "PYTHONFAULTHANDLER", "MPLBACKEND", "MPLCONFIGDIR"),
    }
)
"""Variables of the caller that a script gets."""
PASSED_ON_PREFIXES = (
    *("LC_", "CUDA_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_", "VECLIB_"),
    *("MALLOC_", "TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "HF_", "AWS_", "PIP_"),
)
"""Beginnings of further ones."""
OURS = frozenset(
    {
        *("TRAINING_JOB_NAME", "TRAINING_JOB_ARN", "CURRENT_HOST", "TMPDIR", "TMP", "TEMP"),
        *("MASTER_ADDR", "MASTER_PORT", "NCCL_SOCKET_IFNAME", "NCCL_IB_DISABLE", "NCCL_DEBUG"),
    }
)
"""Names that the contract sets itself, beside all that begin with SM_ or SAGEMAKER_."""
_LIKE_THE_IMAGES = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
"""What SageMaker's PyTorch images set; without the first a script's own lines come out of order."""


@dataclass(frozen=True)
class Machine:
    """What a script is told about where it runs."""

    cpus: int
    gpus: int
    interface: str
    region: str


def this_machine() -> Machine:
    """Count the processors and GPUs that a script may use here, as the toolkit does, without torch."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return Machine(cpus=os.cpu_count() or 1, gpus=_gpus(), interface=_interface(), region=region)


def _gpus() -> int:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    listed = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, check=False)
    found = sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    return min(found, len([each for each in visible.split(",") if each.strip() not in ("", "-1")]))


def _interface() -> str:
    """`eth0` as on SageMaker where the machine has it, else its first interface that is not the loopback one."""
    names = [name for _, name in socket.if_nameindex()]
    others = [name for name in names if not name.startswith("lo")]
    return "eth0" if "eth0" in names else (others or names or ["eth0"])[0]


def torch_version() -> str | None:
    """`torch.__version__` without importing torch (3.5 s), or None where there is none."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).with_name("version.py")
    match = re.search(r"^__version__ = '([^']+)'", file.read_text(), re.MULTILINE) if file.is_file() else None
    return match[1] if match else None


def environment(
    job: JobFolder, spec: ScriptSpec, config: Mapping[str, Any], machine: Machine, caller: Mapping[str, str]
) -> dict[str, str]:
    """Everything the script finds in its environment; later ones win: caller, images, the job's own, the contract."""
    paths = [*_absolute(spec.environment.get("PYTHONPATH", "")), *_absolute(caller.get("PYTHONPATH", ""))]
    return {
        "AWS_REGION": machine.region,
        **at_start(spec.environment, caller),
        "PYTHONPATH": ready.on_path([str(job.code), *paths]),
        **ready.make(job, spec),
        **_of_loading(job, spec),
        **sm_variables(job, config, machine),
        **_platform_variables(job, machine),
    }


def _of_loading(job: JobFolder, spec: ScriptSpec) -> dict[str, str]:
    """What `scripts.hub` is told: that it is wanted, and whose pickles may be run."""
    folders = [str(job.path), *(str(Path(each).resolve()) for each in spec.channels.values())]
    return {hub.VARIABLE: "1", **({hub.TRUSTED: os.pathsep.join(folders)} if spec.trust_pickle else {})}


def at_start(given: Mapping[str, str], caller: Mapping[str, str]) -> dict[str, str]:
    """What of it is known before there is a job: the caller's, then the images', then the script's own (`given`)."""
    passed = {name: value for name, value in caller.items() if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)}
    paths = os.pathsep.join(_absolute(caller.get("PYTHONPATH", "")))
    server = caller.get("AWS_ENDPOINT_URL_S3") or caller.get("AWS_ENDPOINT_URL")
    return {
        **passed,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), *filter(None, [caller.get("PATH")])]),
        **({"PYTHONPATH": paths} if paths else {}),
        **({"FSSPEC_S3_ENDPOINT_URL": server} if server else {}),
        **_LIKE_THE_IMAGES,
        **given,
    }


def _absolute(paths: str) -> list[str]:
    return [str(Path(each).absolute()) for each in paths.split(os.pathsep) if each]


def _platform_variables(job: JobFolder, machine: Machine) -> dict[str, str]:
    """What the platform and the PyTorch image set beside the toolkit."""
    version = torch_version()
    return {
        "TRAINING_JOB_NAME": job.name,
        "TRAINING_JOB_ARN": f"arn:aws:sagemaker:{machine.region}:000000000000:training-job/{job.name}",
        "SAGEMAKER_BASE_DIR": str(job.path),
        "SAGEMAKER_JOB_NAME": job.name,
        "SAGEMAKER_REGION": machine.region,
        "CURRENT_HOST": layout.HOST,
        "MASTER_ADDR": "localhost",  # `algo-1` is no name on this machine
        "MASTER_PORT": "7777",
        "NCCL_SOCKET_IFNAME": machine.interface,
        "NCCL_IB_DISABLE": "1",
        "NCCL_DEBUG": "WARN",
        "TMPDIR": str(layout.scratch_folder(job)),
        **({} if version is None else {"SM_DLC_TORCH_VERSION": version}),
    }


def sm_variables(job: JobFolder, config: Mapping[str, Any], machine: Machine) -> dict[str, str]:
    """The SM_* variables of the toolkit for this configuration: names upper-cased (a dash stays), values as JSON."""
    facts = _facts(job, config, machine)
    hyperparameters, channels = facts["hyperparameters"], facts["channel_input_dirs"]
    renamed = {"hyperparameters": "hps", "additional_framework_parameters": "framework_params"}
    shown = {renamed.get(name, name): value for name, value in facts.items() if name not in _ONLY_IN_TRAINING_ENV}
    named = {
        **shown,
        "channels": sorted(channels),
        "user_args": arguments(hyperparameters),
        "training_env": facts,
        **{f"channel_{name}": path for name, path in channels.items()},
        **{f"hp_{name}": value for name, value in hyperparameters.items()},
    }
    return {f"SM_{name.upper()}": variable(value) for name, value in named.items()}


_ONLY_IN_TRAINING_ENV = frozenset(
    {
        *("channel_input_dirs", "distribution_hosts", "is_master", "master_hostname", "job_name", "topology"),
        *("is_modelparallel_enabled", "is_smddpmprun_installed", "is_smddprun_installed"),
    }
)


def _facts(job: JobFolder, config: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    """What SM_TRAINING_ENV holds: the toolkit's whole view of the job, for one host without a launcher."""
    resources = config["resourceconfig"]
    read = as_read(config["hyperparameters"])
    hyperparameters, framework = split(read)
    groups = {group["instance_group_name"]: group for group in resources["instance_groups"]}
    program = read["sagemaker_program"]
    return {
        "additional_framework_parameters": framework,
        "channel_input_dirs": {name: str(layout.data_folder(job) / name) for name in config["inputdataconfig"]},
        "current_host": resources["current_host"],
        "current_instance_group": resources["current_group_name"],
        "current_instance_group_hosts": groups[resources["current_group_name"]]["hosts"],
        "current_instance_type": resources["current_instance_type"],
        "distribution_hosts": [],
        "distribution_instance_groups": [],
        "framework_module": None,
        "hosts": resources["hosts"],
        "hyperparameters": hyperparameters,
        "input_config_dir": str(layout.config_folder(job)),
        "input_data_config": config["inputdataconfig"],
        "input_dir": str(job.input),
        "instance_groups": list(groups),
        "instance_groups_dict": groups,
        "is_hetero": False,
        "is_master": True,
        "is_modelparallel_enabled": None,
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": False,
        "job_name": job.name,
        "log_level": read["sagemaker_container_log_level"],
        "master_hostname": resources["hosts"][0],
        "model_dir": str(job.model),
        "module_dir": read["sagemaker_submit_directory"],
        "module_name": program.removesuffix(".py"),
        "network_interface_name": resources["network_interface_name"],
        "num_cpus": machine.cpus,
        "num_gpus": machine.gpus,
        "num_neurons": 0,
        "output_data_dir": str(layout.output_data(job)),
        "output_dir": str(job.output),
        "output_intermediate_dir": str(layout.intermediate(job)),
        "resource_config": resources,
        "topology": [],
        "user_entry_point": program,
    }
