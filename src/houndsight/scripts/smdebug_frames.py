"""Profiles as tables, as `smdebug`'s PandasFrame gives them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from houndsight.errors import DependencyError
from houndsight.scripts.smdebug_metrics import (
    AlgorithmMetricsReader,
    SystemMetricsReader,
    us_since_epoch_to_human_readable_time,
)

if TYPE_CHECKING:
    import pandas as pd

SYSTEM = ("timestamp", "timestamp_us", "value", "system_metric", "dimension", "nodeID", "type")
FRAMEWORK = (
    *("start_time", "end_time", "start_time_us", "end_time_us", "tid", "pid", "framework_metric", "step", "bytes"),
    *("process", "nodeID"),
)


class PandasFrame:
    """What the machine did and the steps of one job."""

    def __init__(self, path: str, use_in_memory_cache: bool = False, scan_interval: int = 5_000_000_000) -> None:
        """`path` as the readers take it."""
        del use_in_memory_cache, scan_interval
        self.path = str(path)
        self.system_metrics_reader = SystemMetricsReader(self.path)
        self.framework_metrics_reader = AlgorithmMetricsReader(self.path)
        self.start_time = self.system_metrics_reader.get_timestamp_of_first_available_file()
        """Microseconds since the epoch; other times in microseconds count from it."""

    def get_all_system_metrics(self, selected_system_metrics: Sequence[str] = ()) -> "pd.DataFrame":
        """One row a number; of the metrics (`cpu0`) or dimensions that are named, or all."""
        rows = [
            (
                us_since_epoch_to_human_readable_time(1e6 * each.timestamp),
                1e6 * each.timestamp - self.start_time,
                each.value,
                each.name,
                each.dimension,
                each.node_id,
                each.type,
            )
            for each in self.system_metrics_reader.get_events(0, float("inf"))
            if not selected_system_metrics or {each.name, each.dimension} & set(selected_system_metrics)
        ]
        return _pandas().DataFrame(rows, columns=list(SYSTEM))

    def get_all_framework_metrics(self, selected_framework_metrics: Sequence[str] = ()) -> "pd.DataFrame":
        """One row a step or a part of one; of those that are named, or all."""
        rows = [
            (
                us_since_epoch_to_human_readable_time(each.start_time),
                us_since_epoch_to_human_readable_time(each.end_time),
                each.start_time - self.start_time,
                each.end_time - self.start_time,
                each.tid,
                each.pid,
                each.event_name,
                int(each.event_args["step_num"]),
                -1,
                each.event_phase,
                each.node_id,
            )
            for each in self.framework_metrics_reader.get_events(0, float("inf"))
            if not selected_framework_metrics or each.event_name in selected_framework_metrics
        ]
        return _pandas().DataFrame(rows, columns=list(FRAMEWORK))

    def get_profiler_data_by_step(
        self, start_step: int, end_step: int, cache_metrics: bool = False
    ) -> tuple["pd.DataFrame", "pd.DataFrame"]:
        """Machine and steps from step `start_step` to `end_step`."""
        del cache_metrics
        steps = self.get_all_framework_metrics()
        steps = steps[steps["step"].between(start_step, end_step)]
        machine = self.get_all_system_metrics()
        inside = machine["timestamp_us"].between(steps["start_time_us"].min(), steps["end_time_us"].max())
        return machine[inside], steps

    def get_profiler_data_by_time(
        self, start_time_us: float, end_time_us: float, cache_metrics: bool = False
    ) -> tuple["pd.DataFrame", "pd.DataFrame"]:
        """Machine and steps between two times, in microseconds since the epoch."""
        del cache_metrics
        machine, steps = self.get_all_system_metrics(), self.get_all_framework_metrics()
        low, high = start_time_us - self.start_time, end_time_us - self.start_time
        return (
            machine[machine["timestamp_us"].between(low, high)],
            steps[(steps["start_time_us"] >= low) & (steps["end_time_us"] <= high)],
        )


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError:
        raise DependencyError("Tables need pandas.", "pip install 'houndsight[tables]'") from None
    return pd
