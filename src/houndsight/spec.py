"""What a job is, as frozen data that goes into JSON and comes back; every station reads or writes these.

The field docstrings are the documentation: `--help`, the API page and the error messages are made from them.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from houndsight.errors import SpecError, did_you_mean

SplitName = Literal["train", "valid", "test"]
State = Literal["QUEUED", "RUNNING", "STOPPING", "COMPLETED", "FAILED", "STOPPED"]
FINAL_STATES: frozenset[State] = frozenset({"COMPLETED", "FAILED", "STOPPED"})


class Frozen(BaseModel):
    """Frozen, closed to unknown keys, documented field by field."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=True, ser_json_inf_nan="strings"
    )

    @classmethod
    def create(cls, **values: Any) -> Self:
        """Validate `values`; every problem is collected and raised once as `SpecError`."""
        try:
            return cls(**values)
        except ValidationError as error:
            wrong = {str(detail["loc"][0]) for detail in error.errors() if detail["loc"]}
            together = _together_wrong(cls, {name: value for name, value in values.items() if name not in wrong})
            raise _explain(cls, error, *together) from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the JSON file that `workspace.write_json` wrote."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise _explain(cls, error, where=str(path)) from None


def _together_wrong(cls: type[BaseModel], sound: dict[str, Any]) -> list[str]:
    """What is wrong between settings that are each sound: pydantic does not look while another one is not."""
    try:
        cls(**sound)
    except ValidationError as error:
        return [detail["msg"].removeprefix("Value error, ") for detail in error.errors() if not detail["loc"]]
    return []


def _explain(cls: type[BaseModel], error: ValidationError, *further: str, where: str = "") -> SpecError:
    problems = []
    for detail in error.errors(include_url=False):
        # A field of several types is told once: `freeze`, not `freeze.literal['all','none']` and `freeze.int`.
        field = str(detail["loc"][0]) if detail["loc"] else ""
        if detail["type"] == "extra_forbidden":
            problems.append(f"{field}: no such setting. {did_you_mean(field, cls.model_fields)}".strip())
        elif detail["type"] == "missing":
            problems.append(f"{field}: is required")
        elif any(problem.startswith(f"{field}: ") for problem in problems):
            continue
        else:
            said = detail["msg"].removeprefix("Value error, ")
            problems.append(f"{field}: {said} (got {detail['input']!r})" if field else said)
    unique = list(dict.fromkeys([*problems, *further]))
    head = f"{where}: " if where else ""
    count = "One setting is" if len(unique) == 1 else f"{len(unique)} settings are"
    return SpecError(f"{head}{count} wrong: " + "; ".join(unique))


# ---------------------------------------------------------------------------------------------- data


class Preprocess(Frozen):
    """How an image becomes the network's input: resize the shorter side, cut the centre, scale to [0, 1], normalise."""

    image_size: int = Field(default=224, ge=8, le=4096)
    """Side of the square that the network sees, in pixels."""
    resize: int = Field(default=256, ge=8, le=8192)
    """Shorter side after the antialiased resize, in pixels; the centre square of `image_size` is cut from it."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Filter of the resize."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Per-channel mean of the normalisation, red green blue, in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Per-channel standard deviation of the normalisation."""


class Reject(Frozen):
    """A file that is left out, and why."""

    path: str
    """Path relative to the root of the data."""
    split: str | None = None
    """The split it would have belonged to."""
    reason: str
    """Why it is left out, in words."""


class Split(Frozen):
    """The files of one split, as columns of equal length."""

    paths: tuple[str, ...] = ()
    """Paths relative to `Index.root`, with `/`."""
    labels: tuple[int, ...] = ()
    """Positions in `Index.classes`."""
    sizes: tuple[int, ...] = ()
    """Bytes."""

    def __len__(self) -> int:
        return len(self.paths)


class Index(Frozen):
    """What a folder of labelled images holds: which file, which class by name, which split."""

    root: str
    """Absolute folder that the paths are relative to."""
    classes: tuple[str, ...]
    """Class names in the order of the network's outputs."""
    splits: dict[SplitName, Split]
    """The images of each split; always `train` and `valid`, and `test` where there is one."""
    rejects: tuple[Reject, ...] = ()
    """What was left out."""
    split_seed: int | None = None
    """Seed of the split if Houndsight made it, else None."""
    fingerprint: str
    """sha256 over (path, size, label, split) of every file."""


class Finding(Frozen):
    """One thing that was noticed, by any part of the house."""

    source: Literal["check", "debugger", "profiler", "tuning", "script"]
    """Who noticed it."""
    rule: str
    """Name of the rule, in snake case."""
    status: Literal["InProgress", "NoIssuesFound", "IssuesFound", "NotApplicable", "Error"] = "IssuesFound"
    """SageMaker's rule statuses, and NotApplicable where the rule lacks what it needs."""
    severity: Literal["info", "warning", "error"] = "warning"
    """How much it matters."""
    step: int | None = None
    """Training step at which it was seen."""
    files: tuple[str, ...] = ()
    """The files it is about, relative to the data's root."""
    message: str
    """What was seen, in one sentence."""
    repair: str = ""
    """What to do about it, with exact values."""
    evidence: dict[str, Any] = Field(default_factory=dict)
    """The numbers behind the message."""


# ---------------------------------------------------------------------------------------------- jobs


_NOT_WITH_LBFGS = (
    "lr",
    "epochs",
    "steps",
    "hidden",
    "dropout",
    "label_smoothing",
    "early_stopping",
    "ema",
    "first_size",
)


class ClassifierSpec(Frozen):
    """One training of the built-in classifier."""

    kind: Literal["classifier"] = "classifier"
    """What sort of job this is."""
    data: str
    """Folder of images, one sub-folder a class, with or without train/valid/test; or a CSV file list."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of the 80/10/10 split where the data has none of its own."""
    evaluate_test: bool = True
    """Measure the model on the test split at the end; trials of a tuning do not, so that nothing is chosen by it."""

    recipe: Literal["auto", "linear", "lp-ft", "seed", "plain"] = "auto"
    """What decides every setting that is not given: `linear` fits a linear head on frozen features in closed form,
    `lp-ft` fine-tunes everything from there, `seed` does as the first dog-breed projects did, `plain` takes the
    defaults. `auto` is plain where settings of the optimizer are given, linear with `--freeze all`, else lp-ft on a
    GPU or where it takes under 30 minutes, and linear where it does not."""
    backbone: str = "resnet18"
    """Network to start from: any torchvision or timm name (timm's with the prefix `timm/` where both have it)."""
    weights: str = "imagenet"
    """`imagenet` for the published weights, `none` for random ones, or a .pth or .safetensors file."""
    head_start: Literal["random", "probe"] = "random"
    """First weights of the head: random, or those of the closed-form fit on frozen features."""
    freeze: Literal["all", "none"] | int = "all"
    """`all` trains the head alone, `none` trains everything, a number freezes that many first stages."""
    hidden: tuple[int, ...] = ()
    """Widths of the head's hidden layers; none for a linear head."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the head's inputs dropped in training."""
    batch_norm: Literal["train", "fixed"] = "train"
    """`fixed` keeps the running statistics of the pretrained weights; a few thousand images give worse ones."""
    image_size: int | None = Field(default=None, ge=8, le=2048)
    """Side of the input in pixels; by default the size the weights were trained at."""

    optimizer: Literal["adamw", "adam", "sgd", "lbfgs"] = "adamw"
    """Optimizer; lbfgs is the closed-form fit of a linear head on frozen features."""
    lr: float | None = Field(default=None, gt=0.0, le=10.0)
    """Learning rate at the peak of the schedule (0.001, or 0.01 for sgd); lbfgs has none."""
    weight_decay: float | None = Field(default=None, ge=0.0, le=10.0)
    """Weight decay, decoupled for adamw (0.01, or 0.0001 for adam and sgd); lbfgs chooses it on validation."""
    layer_decay: float = Field(default=1.0, gt=0.0, le=1.0)
    """Each stage before the head learns at this times the rate of the stage after it."""
    ema: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Decay of the moving average of the weights that is validated and kept; 0 for none."""
    eps: float = Field(default=1e-8, gt=0.0, le=1.0)
    """Term added to Adam's denominator."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Momentum of sgd."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate over the run, after the warm-up."""
    warmup: float = Field(default=0.05, ge=0.0, le=1.0)
    """Share of all steps with a linearly rising learning rate."""
    epochs: int | None = Field(default=None, ge=1, le=100_000)
    """Passes over the training images (10 where neither this nor steps is given)."""
    steps: int | None = Field(default=None, ge=1, le=100_000_000)
    """Optimizer steps, instead of epochs."""
    batch_size: int = Field(default=32, ge=1, le=65_536)
    """Images per step."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Probability spread over the other classes in the training loss."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs each class in the loss by the inverse of its share of the training images."""
    augment: Literal["none", "crop-flip", "trivial"] = "none"
    """Random resized crop and mirror, or these and TrivialAugment, or nothing."""
    views: int = Field(default=0, ge=0, le=1000)
    """With freeze all and augment: the features of this many augmented views, computed once and trained on in turn; 0
    augments anew in every epoch, through the backbone."""
    first_size: int | None = Field(default=None, ge=8, le=2048)
    """Side of the input in the first half of the training, smaller and so faster; the second half sees full size."""
    early_stopping: int | None = Field(default=None, ge=1)
    """Stop after this many epochs without a better validation value."""
    monitor: Literal["loss", "accuracy"] = "loss"
    """The validation value by which the best checkpoint is kept."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the head's first weights, the order of the images and the augmentation."""
    soup: tuple[str, ...] = ()
    """Artifacts of earlier jobs whose weights are averaged, instead of a training: the first, and of the others each
    that does not worsen validation (greedy soup, Wortsman et al., ICML 2022)."""

    debug: Literal["auto", "off"] = "auto"
    """Watch the training from within (statistics of weights, gradients and activations, and the rules), or not."""
    debug_interval: int | None = Field(default=None, ge=1)
    """Save statistics every so many steps; by default as often as one per cent of the training's time allows."""
    rules: tuple[str, ...] = ()
    """A rule of the debugger that is asked differently: `name:parameter=value,...`, `name:off`, or `none` for no rules
    at all; docs/rules.md lists them."""
    on_finding: str = "none"
    """When a rule finds something: `none` writes it down, `stop` stops with a checkpoint at an error (`stop:warning` at
    a warning too), anything else is a command to run, in which {rule}, {message} and {repair} are filled in."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto takes a GPU when there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the network; auto takes bfloat16 where the device is faster with it."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """CPU threads of the network; 1 makes a run repeatable bit for bit."""
    workers: int | None = Field(default=None, ge=0, le=256)
    """Threads that read and decode images; by default one a core."""
    checkpoint_seconds: float = Field(default=60.0, ge=0.0)
    """Longest time between two checkpoints; 0 writes one after every step."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        problems = []
        if self.epochs is not None and self.steps is not None:
            problems.append("give epochs or steps, not both")
        if isinstance(self.freeze, int) and self.freeze < 0:
            problems.append("freeze: the number of frozen stages cannot be negative")
        if self.optimizer == "lbfgs":
            refused = [name for name in _NOT_WITH_LBFGS if name in self.model_fields_set and getattr(self, name)]
            problems += [f"{name}: the closed-form fit (lbfgs) has no such setting" for name in refused]
            problems += ["freeze: the closed-form fit (lbfgs) needs freeze all"] * (self.freeze != "all")
            problems += ["augment: the closed-form fit (lbfgs) takes none"] * (self.augment != "none")
        if any(width < 1 for width in self.hidden):
            problems.append("hidden: every width must be 1 or more")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class ScriptSpec(Frozen):
    """One run of a training script written for SageMaker's script mode."""

    kind: Literal["script"] = "script"
    """What sort of job this is."""
    entry_point: str
    """The script, relative to `source_dir`."""
    source_dir: str
    """Absolute folder of the script's code; it is copied into the job."""
    alone: bool = False
    """Copy the script without the rest of `source_dir`, as SageMaker does where no source folder was named."""
    channels: dict[str, str] = Field(default_factory=dict)
    """Channel name -> absolute folder of its data; linked, never copied."""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """Name -> value, any JSON; passed to the script as `--name value`."""
    metrics: dict[str, str] = Field(default_factory=dict, max_length=40)
    """Metric name -> regular expression whose first group is the number, searched in every line of the log."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Further environment variables for the script."""
    max_seconds: float | None = Field(default=None, gt=0.0)
    """Longest run; the job is stopped after it."""
    instance_type: str = "local"
    """What the script is told it runs on."""
    opt_ml: Literal["auto", "always", "never"] = "auto"
    """Give the script the folders of its job at /opt/ml, for itself alone: where its code names them, always, never."""
    allow_requirements: bool = False
    """Install what requirements.txt asks for, and the package itself where there is a setup.py, into an environment of
    their own, once per content."""
    trust_pickle: bool = False
    """Let torch.load run what a file of the job's own folders holds: whole modules are pickles, which are programs."""
    checkpoint_config: dict[str, Any] | None = None
    """SageMaker's CheckpointConfig, for a script that reads input/config/checkpointconfig.json; nothing is copied."""
    debug: Literal["auto", "off"] = "auto"
    """Whether the script's training is watched: losses, tensors, rules, and where its time goes."""
    hook_config: dict[str, Any] | None = None
    """SageMaker's DebugHookConfig: what is saved, and when; None lets the debugger choose."""
    rules: tuple[str, ...] = ()
    """Rules that are asked differently, as `name:parameter=value`, or not at all, as `name:off`."""
    on_finding: str = "none"
    """What a finding leads to, as for `ClassifierSpec`."""
    profile_interval: float = Field(default=0.5, ge=0.1, le=60.0)
    """Seconds between two samples of the machine."""


class LoopSpec(Frozen):
    """A training loop of somebody's own that is watched by `houndsight.debug`."""

    kind: Literal["loop"] = "loop"
    """What sort of job this is."""
    program: str
    """The program that runs the loop."""
    models: tuple[str, ...]
    """Types of the models that are watched."""
    optimizers: tuple[str, ...] = ()
    """Types of the optimizers that move them."""
    rules: tuple[str, ...] = ()
    """Rules that are asked differently."""


JobSpec = ClassifierSpec | ScriptSpec
"""Either kind of job; `kind` tells which."""


class Status(Frozen):
    """Where a job stands; `status.json`."""

    state: State
    """QUEUED RUNNING STOPPING, then COMPLETED FAILED or STOPPED."""
    backend: str = "local"
    """Which back end runs it."""
    pid: int | None = None
    """Process that runs the job."""
    pid_started: float | None = None
    """Start time of that process (seconds since the epoch), so that a reused process id is not taken for it."""
    monitor: int | None = None
    """Process that watches over `pid` and outlives it, where the back end has one."""
    monitor_started: float | None = None
    """Start time of that process (seconds since the epoch)."""
    created: float = 0.0
    """When the job was made (seconds since the epoch)."""
    started: float | None = None
    """When it began to run."""
    ended: float | None = None
    """When it ended."""
    exit_code: int | None = None
    """Exit code of the process; negative for a signal."""
    reason: str = ""
    """Why it failed or stopped, in one sentence."""
    error: dict[str, str] | None = None
    """The error as `HoundsightError.document` gives it."""
