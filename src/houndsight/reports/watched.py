"""What debugger and profiler saw of a run, as frozen data: the parts of a page that come from their records."""

from houndsight.results import Verdict
from houndsight.spec import Frozen

Row = tuple[float | None, ...]
"""Numbers of a map or a curve by bucket; None where nothing was recorded."""


class LayerMap(Frozen):
    """One quantity of every layer over the steps."""

    name: str
    """`gradient_norm`, `update_ratio`, `gradient_zeros` or `dead_units`."""
    layers: tuple[str, ...]
    """Parameters, or modules, in the order of the network."""
    cells: tuple[Row, ...]
    """(layers, buckets) mean over the bucket; None where nothing was taken or nothing was finite."""
    nonfinite: tuple[tuple[int, int], ...] = ()
    """(layer, bucket) that held NaN or infinite values, the first of them."""
    last: Row = ()
    """Median over the newest fifth of the buckets, by layer."""


class TensorMaps(Frozen):
    """What the debugger saw of the layers."""

    steps: tuple[int, ...]
    """Last step of each bucket."""
    saved: int
    """Steps of which statistics were saved."""
    tensors: int
    """Tensors that were recorded."""
    left_out: int
    """Layers that the maps leave out."""
    maps: tuple[LayerMap, ...]
    """Those that were recorded."""


class Line(Frozen):
    """The evidence of one finding as a small curve."""

    rule: str
    """Name of the rule."""
    step: int | None
    """Step of the finding."""
    label: str
    """What the line shows."""
    steps: tuple[int, ...]
    """Steps of the points."""
    values: tuple[float | None, ...]
    """Their values; None where nothing finite was recorded."""


class Bin(Frozen):
    """Steps of about one length."""

    low: float
    """Least seconds a step."""
    high: float
    """Most seconds a step."""
    count: int
    """How many groups of steps."""


class Outlying(Frozen):
    """A step that took far longer than those around it."""

    step: int
    """Which step, from 0."""
    seconds: float
    """What it took."""
    usual: float
    """What those around it took."""
    part: str
    """The part of the loop that grew most, in words."""
    cause: str
    """What happened then; `unknown` where nothing is known to have."""


class Operation(Frozen):
    """An operator of the network in a window of some steps."""

    name: str
    """Such as `aten::convolution`."""
    calls: int
    """How often it ran."""
    seconds: float
    """Its own time on the CPU."""
    device_seconds: float
    """Its own time on the GPU."""
    share: float
    """Part of the time of all operators that were recorded."""


class Speed(Frozen):
    """What is known about the speed of a run."""

    verdict: Verdict | None
    """What limits it; None where too little was recorded to say."""
    steps: int
    """How many steps there were."""
    seconds: dict[str, float]
    """min, p50, p95, p99 and max of a step; empty without steps."""
    images_per_second: float | None
    """Over the whole loop, validation and checkpoints included."""
    histogram: tuple[Bin, ...]
    """Lengths of the steps."""
    outliers: tuple[Outlying, ...]
    """The dearest first."""
    outlier_count: int
    """How many there were in all, as far as they were kept."""
    operators: tuple[Operation, ...]
    """The dearest first."""
    facts: dict[str, float]
    """FLOPs, energy, cost and overhead, as far as they are known: `flops_per_step`, `flops_share`, `gpu_joules`,
    `cost`, `sampler_share_of_a_core`."""


class MachineUse(Frozen):
    """How a machine was used; times in seconds since the first sample."""

    model: str
    """Name of the processor."""
    cores: int
    """Cores of the machine."""
    usable: float
    """Cores that the training was allowed to use."""
    memory: int
    """Bytes of memory."""
    gpus: tuple[str, ...]
    """Names of the GPUs."""
    interval: float
    """Seconds between two samples."""
    time: tuple[float, ...]
    """End of each bucket in seconds since the first sample."""
    busy: dict[str, Row]
    """Core or GPU -> share of each bucket in which it was busy, 0 to 1."""
    curves: dict[str, Row]
    """`training_cores`, `other_cores`, `memory_training`, `memory_used` (bytes), `disk_read`, `disk_written`,
    `received`, `sent` (bytes a second), `gpu0_memory` (bytes), `gpu0_power` (W), by bucket."""
