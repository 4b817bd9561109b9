"""SageMaker's eleven profiler rules under their names and parameters, asked of the records of one run."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from houndsight.records.profiling import rules_gpu, rules_loop
from houndsight.records.profiling.report import Report
from houndsight.records.profiling.run import Run

RULES: dict[str, Callable[..., Report]] = {
    "BatchSize": rules_gpu.batch_size,
    "CPUBottleneck": rules_gpu.cpu_bottleneck,
    "Dataloader": rules_loop.dataloader,
    "GPUMemoryIncrease": rules_gpu.gpu_memory_increase,
    "IOBottleneck": rules_gpu.io_bottleneck,
    "LoadBalancing": rules_gpu.load_balancing,
    "LowGPUUtilization": rules_gpu.low_gpu_utilization,
    "MaxInitializationTime": rules_loop.max_initialization_time,
    "OverallFrameworkMetrics": rules_loop.overall_framework_metrics,
    "OverallSystemUsage": rules_loop.overall_system_usage,
    "StepOutlier": rules_loop.step_outlier,
}
"""SageMaker's name -> the rule with its default parameters."""


def evaluate(run: Run, given: Mapping[str, Mapping[str, Any]] | None = None, off: Collection[str] = ()) -> list[Report]:
    """Ask every rule but those that are `off`, in the order of their names; `given` are parameters by rule."""
    return [rule(run, **(given or {}).get(name, {})) for name, rule in RULES.items() if name not in off]
