"""What a training led to, as frozen data: measures with intervals, the evaluation of a split, the card of a model."""

from typing import Any, Literal

from pydantic import Field

from houndsight.spec import Frozen, Preprocess


class Measure(Frozen):
    """A number and its 95 % interval."""

    value: float
    """The estimate."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""
    n: int
    """How many images it rests on."""


class ClassScore(Frozen):
    """How one class came out."""

    name: str
    """Class name."""
    support: int
    """Images of the class."""
    precision: float
    """Share of the images called this class that are of it; 0 where none was."""
    recall: Measure
    """Share of the class's images that were recognised."""
    f1: float
    """Harmonic mean of precision and recall."""


class Mistake(Frozen):
    """One image that was called something else with confidence."""

    path: str
    """Path relative to the data's root."""
    label: str
    """The class it is filed under."""
    predicted: str
    """The class it was taken for."""
    probability: float
    """Calibrated probability of `predicted`."""
    thumbnail: str = ""
    """File name of a small JPEG in the evaluation folder."""
    heat: str = ""
    """File name of the same with what spoke for `predicted` in warm colours (Grad-CAM); empty where there is none."""


class ReliabilityBin(Frozen):
    """Images whose confidence falls into one bin."""

    low: float
    """Lower edge of the confidence bin."""
    high: float
    """Upper edge of the confidence bin."""
    confidence: float
    """Mean confidence in the bin."""
    accuracy: float
    """Share of them that are right."""
    count: int
    """How many."""


class Evaluation(Frozen):
    """The classifier's results on one split; `evaluation/<split>.json`."""

    split: str
    """Which split."""
    classes: tuple[str, ...]
    """Class names in the order of the outputs."""
    metrics: dict[str, Measure]
    """top1, top5, balanced_accuracy, macro_f1, loss, ece, ece_uncalibrated, each with its interval."""
    per_class: tuple[ClassScore, ...]
    """One entry a class."""
    confusion: tuple[tuple[int, ...], ...]
    """Counts; row = true class, column = predicted class."""
    reliability: tuple[ReliabilityBin, ...]
    """Confidence against accuracy, after temperature scaling."""
    reliability_uncalibrated: tuple[ReliabilityBin, ...]
    """The same before it."""
    temperature: float
    """What the logits were divided by."""
    mistakes: tuple[Mistake, ...] = ()
    """The most confident mistakes, worst first."""


class ModelCard(Frozen):
    """What a trained classifier is; `model.json` beside `model.safetensors`."""

    format: int = 1
    """Version of the artifact's layout."""
    classes: tuple[str, ...]
    """Class names in the order of the outputs."""
    preprocess: Preprocess
    """From image to input."""
    backbone: str
    """Name of the network."""
    hidden: tuple[int, ...] = ()
    """Widths of the head's hidden layers."""
    dropout: float = 0.0
    """Dropout of the head, in training only."""
    temperature: float = 1.0
    """The logits are divided by this before the softmax."""
    weights_source: str = ""
    """Where the backbone's first weights came from."""
    weights_licence: str = "unknown"
    """Licence of the backbone's first weights."""
    metrics: dict[str, dict[str, Measure]] = Field(default_factory=dict)
    """split -> metric -> value with interval."""
    data_fingerprint: str = ""
    """`Index.fingerprint` of the training data."""
    spec: dict[str, Any] = Field(default_factory=dict)
    """The spec of the job that made it."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages that made it."""
    created: str = ""
    """When, ISO 8601 in UTC."""


class Exported(Frozen):
    """A classifier written for another runtime, and how near that comes to it; `export.json`."""

    format: Literal["onnx", "openvino"]
    """What it was written as."""
    file: str
    """Name of the file in the export's folder."""
    bytes: int
    """Its size, weights included."""
    images: int
    """Validation images of the model on which it was checked."""
    agreement: float
    """Share of them on which it names the class that the model names."""
    difference: float
    """Largest difference of a probability from the model's."""
    checked_by: str
    """Which runtime read the file back."""


class Verdict(Frozen):
    """What limits the speed of a training, what would be won without it, and what to change."""

    bound: Literal["data", "copy", "compute", "host", "memory", "idle"]
    """What the training waits for: images, their way to the device, arithmetic, Python, memory, or nothing at all."""
    cause: str
    """The cause in snake case, such as `data_wait`, `slow_worker`, `tiny_batch`, `checkpoint`, `neighbour`."""
    message: str
    """The verdict in one sentence."""
    share: float
    """Share of the loop's wall time that it takes, 0 to 1."""
    gain: float
    """How many times as fast the training would be without it; 1.0 where it costs no time."""
    change: str = ""
    """What to change, with exact values."""
    expected: float | None = None
    """How many times as fast the training should be after `change`; None where that cannot be known."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The change as settings of the built-in classifier, where it is one."""
    evidence: dict[str, Any] = Field(default_factory=dict)
    """The numbers behind it."""
    assumption: str = ""
    """What `gain` and `expected` take for granted."""
    alternatives: tuple["Verdict", ...] = ()
    """What else slows it, the dearest first."""


class Replayed(Frozen):
    """What a step of a training was when it was done again."""

    job: str
    """Name of the job."""
    step: int
    """The step, from 0."""
    began: int
    """Steps that had been done where the replay began: those of the checkpoint before, 0 for the beginning."""
    loss: float
    """Training loss of the step."""
    finite: bool
    """Whether everything in it was finite."""
    same: bool | None = None
    """Whether every loss on the way is that of the first run to the last bit; None where none was recorded."""
    phase: str = ""
    """Where it went bad: `input`, `forward`, `backward`, `optimizer`, or `evaluation` behind the step."""
    layer: str = ""
    """The layer in which it went bad."""
    operation: str = ""
    """The operation that made the first number that is not finite."""
    images: tuple[int, ...] = ()
    """Positions of the images it went bad for, in the training split."""
    files: tuple[str, ...] = ()
    """Their files, relative to the data's root."""
    message: str
    """All this in one sentence."""
    folder: str
    """Where the statistics of the step and those before it are."""
