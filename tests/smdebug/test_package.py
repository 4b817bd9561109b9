"""The drop-in as a package: every module that scripts import, the version that installers see, what a wheel holds."""

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from houndsight.folders import drop_in
from houndsight.scripts import (
    smdebug_charts,
    smdebug_config,
    smdebug_errors,
    smdebug_hook,
    smdebug_metrics,
    smdebug_rules,
    smdebug_sources,
    smdebug_trial,
)

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(drop_in()).with_suffix("").parts).removesuffix(".__init__")
    for path in drop_in().rglob("*.py")
)


def test_every_module_can_be_imported_and_gives_what_it_names(imports: None) -> None:
    for name in MODULES:
        module = importlib.import_module(name)
        for each in vars(module).get("__all__", ()):
            assert each in vars(module), f"{name}.{each}"


def test_the_imports_of_public_projects(imports: None) -> None:
    names: dict[str, object] = {}
    exec(
        """
import smdebug.pytorch as smd
from smdebug import modes
from smdebug import modes, SaveConfig, ReductionConfig, CollectionKeys
from smdebug.pytorch import Hook, get_hook, modes as pytorch_modes
from smdebug.core.modes import ModeKeys
from smdebug.core.collection import CollectionKeys
from smdebug.core.hook import CallbackHook
from smdebug.profiler.utils import str2bool
from smdebug.trials import create_trial
from smdebug.rules import Rule, invoke_rule
from smdebug.rules.rule import Rule as OtherRule
from smdebug.exceptions import *
from smdebug.analysis.utils import no_refresh
from smdebug.profiler.analysis.notebook_utils.training_job import TrainingJob
from smdebug.profiler.analysis.notebook_utils.timeline_charts import TimelineCharts
from smdebug.profiler.analysis.notebook_utils.metrics_histogram import MetricsHistogram
from smdebug.profiler.analysis.notebook_utils.step_timeline_chart import StepTimelineChart
from smdebug.profiler.analysis.notebook_utils.step_histogram import StepHistogram
from smdebug.profiler.analysis.notebook_utils.heatmap import Heatmap
from smdebug.profiler.analysis.utils.profiler_data_to_pandas import PandasFrame
from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader, S3SystemMetricsReader
import smdebug.tensorflow as smtf
""",
        names,
    )
    assert names["pytorch_modes"] is names["ModeKeys"] is smdebug_errors.ModeKeys
    assert names["Rule"] is names["OtherRule"] is smdebug_rules.Rule
    assert names["create_trial"] is smdebug_sources.create_trial
    assert names["SMDebugError"] is smdebug_errors.SMDebugError
    assert names["CallbackHook"] is smdebug_hook.Hook
    assert names["TimelineCharts"] is smdebug_charts.TimelineCharts
    assert names["no_refresh"] is smdebug_trial.no_refresh
    assert names["TrainingJob"] is smdebug_metrics.TrainingJob
    assert names["SaveConfig"] is smdebug_config.SaveConfig
    smtf = names["smtf"]
    with pytest.raises(smdebug_errors.SMDebugNotImplementedError, match="PyTorch"):
        smtf.KerasHook("out")  # type: ignore[attr-defined]
    with pytest.raises(smdebug_errors.SMDebugNotImplementedError, match="PyTorch"):
        smtf.Hook.create_from_json_file()  # type: ignore[attr-defined]


def test_it_is_found_in_no_other_process(imports: None) -> None:
    import smdebug

    found = metadata.distribution("smdebug")
    assert found.version == smdebug.__version__ == importlib.import_module("smdebug._version").__version__
    assert tuple(map(int, found.version.split("."))) > (1, 0, 34)
    done = subprocess.run([sys.executable, "-c", "import smdebug"], capture_output=True, text=True, check=False, env={})
    assert "No module named 'smdebug'" in done.stderr


@pytest.mark.slow
def test_installers_leave_it_alone() -> None:
    environ = {**os.environ, "PYTHONPATH": str(drop_in()), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def pip(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pip", "install", "--no-index", *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    for words in (["smdebug"], ["-U", "smdebug"], ["smdebug>=1.0.9"]):
        done = pip("--dry-run", *words)
        assert done.returncode == 0, done.stderr
        assert "already satisfied: smdebug" in done.stdout
    command = [sys.executable, "-m", "pip", "uninstall", "-y", "smdebug"]
    subprocess.run(command, env=environ, capture_output=True, check=False)
    assert (drop_in() / "smdebug" / "__init__.py").is_file()


@pytest.mark.slow
def test_a_wheel_holds_all_of_it(tmp_path: Path) -> None:
    tool = shutil.which("uv")
    if tool is None:
        pytest.skip("there is no uv to build a wheel with")
    command = [tool, "build", "--quiet", "--wheel", "--out-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        held = set(file.namelist())
    place = drop_in().relative_to(ROOT / "src").as_posix()
    wanted = {path.relative_to(drop_in()).as_posix() for path in drop_in().rglob("*") if path.is_file()}
    wanted = {path for path in wanted if "__pycache__" not in path}
    assert len(wanted) > 45
    assert {f"{place}/{path}" for path in wanted} <= held
