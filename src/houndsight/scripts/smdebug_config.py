"""When and how `smdebug` saves tensors: SaveConfig, ReductionConfig, Collection, as scripts build and read them."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

from houndsight.scripts.smdebug_errors import ModeKeys, SMDebugError, SMDebugTypeError, SMDebugValueError

INTERVAL = 500
"""Save every so many steps where nothing else is said."""
REDUCTIONS = ("min", "max", "mean", "std", "variance", "sum", "prod")
NORMS = ("l1", "l2")


class CollectionKeys:
    """Names of collections."""

    DEFAULT = "default"
    ALL = "all"
    INPUTS = "inputs"
    OUTPUTS = "outputs"
    WEIGHTS = "weights"
    GRADIENTS = "gradients"
    LOSSES = "losses"
    BIASES = "biases"
    LAYERS = "layers"
    SM_METRICS = "sm_metrics"
    OPTIMIZER_VARIABLES = "optimizer_variables"
    TENSORFLOW_SUMMARIES = "tensorflow_summaries"
    METRICS = "metrics"
    HYPERPARAMETERS = "hyperparameters"
    PREDICTIONS = "predictions"
    LABELS = "labels"


BUILT_IN = {
    "all": (),
    "default": (),
    "weights": ("^(?!gradient).*weight",),
    "biases": ("^(?!gradient).*bias",),
    "gradients": ("^gradient",),
    "losses": ("[Ll]oss_(?!input).*output",),
}
"""The collections that are always there, and which names belong to them."""
WHOLE = ("losses", "metrics", "sm_metrics")
"""Collections of single numbers, which are never reduced."""


class SaveConfigMode:
    """Which steps of one mode are saved."""

    def __init__(
        self,
        save_interval: int | str | None = None,
        start_step: int | str | None = None,
        end_step: int | str | None = None,
        save_steps: Iterable[int] | None = None,
    ) -> None:
        """`end_step` itself is not saved; `save_steps` are saved whatever the rest says."""
        try:
            self.save_interval = INTERVAL if save_interval is None else int(save_interval)
            self.start_step = 0 if start_step is None else int(start_step)
            self.end_step = None if end_step is None else int(end_step)
            self.save_steps = [] if save_steps is None else [int(each) for each in save_steps]
        except (TypeError, ValueError) as error:
            raise SMDebugValueError(f"Steps are whole numbers: {error}") from None
        if self.save_interval < 1:
            raise SMDebugValueError(f"save_interval={self.save_interval} must be 1 or more")

    def should_save_step(self, step_num: int) -> bool:
        """Whether the step of this mode is saved."""
        inside = self.start_step <= step_num and (self.end_step is None or step_num < self.end_step)
        return step_num in self.save_steps or (inside and step_num % self.save_interval == 0)

    def to_json_dict(self) -> dict[str, Any]:
        """As a dictionary."""
        return dict(vars(self))

    @classmethod
    def from_dict(
        cls, params: Mapping[str, Any] | None, default_values: Mapping[str, Any] | None = None
    ) -> Self | None:
        """From a dictionary; None from None."""
        if params is None:
            return None
        if not isinstance(params, Mapping):
            raise SMDebugTypeError(f"params={params} is not a dict.")
        known = ("save_interval", "start_step", "end_step", "save_steps")
        return cls(**{name: params.get(name, (default_values or {}).get(name)) for name in known})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SaveConfigMode) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SaveConfigMode({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


class SaveConfig:
    """Which steps are saved, mode by mode; a mode without its own follows the hook's."""

    def __init__(
        self,
        mode_save_configs: Mapping[ModeKeys, SaveConfigMode | None] | None = None,
        save_interval: int | None = None,
        start_step: int | None = None,
        end_step: int | None = None,
        save_steps: Iterable[int] | None = None,
    ) -> None:
        given = mode_save_configs
        if given is None:
            same = SaveConfigMode(save_interval, start_step, end_step, save_steps)
            given = dict.fromkeys(ModeKeys, same)
        for mode, each in given.items():
            if not isinstance(mode, ModeKeys) or not isinstance(each, SaveConfigMode | None):
                raise SMDebugValueError(f"mode_save_configs takes ModeKeys to SaveConfigMode, not {mode}: {each}")
        self.mode_save_configs: dict[ModeKeys, SaveConfigMode | None] = {mode: given.get(mode) for mode in ModeKeys}

    def get_save_config(self, mode: ModeKeys) -> SaveConfigMode:
        """Of one mode."""
        return self.mode_save_configs[mode] or SaveConfigMode()

    def set_save_config(self, mode: ModeKeys, save_config_mode: SaveConfigMode) -> None:
        """Set that of one mode."""
        self.mode_save_configs[mode] = save_config_mode

    def should_save_step(self, mode: ModeKeys, step_num: int) -> bool:
        """Whether that step of that mode is saved."""
        return self.get_save_config(mode).should_save_step(step_num)

    def over(self, base: "SaveConfig") -> "SaveConfig":
        """What it says, and where it is silent what `base` says."""
        return SaveConfig({mode: self.mode_save_configs[mode] or base.mode_save_configs[mode] for mode in ModeKeys})

    def to_json_dict(self) -> dict[str, Any]:
        """As a dictionary."""
        return {mode.name: each and each.to_json_dict() for mode, each in self.mode_save_configs.items()}

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(self.to_json_dict())

    @classmethod
    def from_dict(
        cls, params: Mapping[Any, Any] | None, default_values: Mapping[str, Any] | None = None
    ) -> Self | None:
        """From mode (or its name) to `SaveConfigMode` or a dictionary of its arguments."""
        if params is None:
            return None
        found: dict[ModeKeys, SaveConfigMode | None] = {}
        for mode, each in params.items():
            key = ModeKeys[mode] if isinstance(mode, str) else mode
            found[key] = SaveConfigMode.from_dict(each, default_values) if isinstance(each, Mapping) else each
        return cls(found)

    @classmethod
    def from_json(cls, json_str: str) -> Self | None:
        """From JSON."""
        return cls.from_dict(json.loads(json_str))

    @classmethod
    def parse(cls, obj: Any) -> "SaveConfig":
        """From anything that a hook takes as `save_config`."""
        if obj is None:
            return cls()
        if isinstance(obj, SaveConfig):
            return obj
        if isinstance(obj, SaveConfigMode):
            return cls(dict.fromkeys(ModeKeys, obj))
        if isinstance(obj, Mapping):
            return cls.from_dict(obj) or cls()
        raise SMDebugTypeError(f"{obj!r} cannot be parsed into a SaveConfig object")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SaveConfig) and self.mode_save_configs == other.mode_save_configs

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SaveConfig({self.mode_save_configs})"


class ReductionConfig:
    """Which numbers are saved of a tensor in place of the tensor itself."""

    def __init__(
        self,
        reductions: Iterable[str] | None = None,
        abs_reductions: Iterable[str] | None = None,
        norms: Iterable[str] | None = None,
        abs_norms: Iterable[str] | None = None,
        save_raw_tensor: bool = False,
        save_shape: bool = False,
    ) -> None:
        self.reductions, self.abs_reductions = list(reductions or ()), list(abs_reductions or ())
        self.norms, self.abs_norms = list(norms or ()), list(abs_norms or ())
        self.save_raw_tensor, self.save_shape = boolean(save_raw_tensor), boolean(save_shape)
        for given, known in (
            *((each, REDUCTIONS) for each in (self.reductions, self.abs_reductions)),
            *((each, NORMS) for each in (self.norms, self.abs_norms)),
        ):
            if wrong := [each for each in given if each not in known]:
                raise SMDebugValueError(f"{', '.join(wrong)}: reductions can only be one of {','.join(known)}")

    def wanted(self) -> list[tuple[str, bool]]:
        """(name, whether of the magnitudes) of each."""
        return [(each, False) for each in (*self.reductions, *self.norms)] + [
            (each, True) for each in (*self.abs_reductions, *self.abs_norms)
        ]

    @classmethod
    def from_dict(cls, params: Mapping[str, Any] | None) -> Self | None:
        """From `reductions` (names with commas: `min,abs_max,l1_norm`), `save_raw_tensor` and `save_shape`."""
        if params is None:
            return None
        named: dict[str, list[str]] = {"reductions": [], "abs_reductions": [], "norms": [], "abs_norms": []}
        for each in words(params.get("reductions", "")):
            bare, kind = each.removeprefix("abs_"), "norms" if each.endswith("_norm") else "reductions"
            named[("abs_" if bare != each else "") + kind].append(bare.removesuffix("_norm"))
        raw, shape = params.get("save_raw_tensor", False), params.get("save_shape", False)
        return cls(**named, save_raw_tensor=boolean(raw), save_shape=boolean(shape))

    @classmethod
    def from_json(cls, json_str: str) -> Self | None:
        """From JSON."""
        return cls.from_dict(json.loads(json_str))

    def to_json_dict(self) -> dict[str, Any]:
        """As a dictionary that `from_dict` takes."""
        names = [*self.reductions, *(f"{each}_norm" for each in self.norms)]
        names += [f"abs_{each}" for each in self.abs_reductions] + [f"abs_{each}_norm" for each in self.abs_norms]
        return {"reductions": ",".join(names), "save_raw_tensor": self.save_raw_tensor, "save_shape": self.save_shape}

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(self.to_json_dict())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReductionConfig) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ReductionConfig({self.to_json_dict()})"


class Collection:
    """Tensors that are saved together."""

    def __init__(
        self,
        name: str,
        include_regex: Iterable[str] | None = None,
        tensor_names: Iterable[str] | None = None,
        reduction_config: ReductionConfig | None = None,
        save_config: SaveConfig | Mapping[ModeKeys, SaveConfigMode] | None = None,
        save_histogram: bool = True,
    ) -> None:
        self.name = name
        self.include_regex: list[str] = []
        self.include(list(include_regex or ()))
        self.tensor_names = set(tensor_names or ())
        self.reduction_config, self.save_histogram = reduction_config, save_histogram
        self.save_config = None if save_config is None else SaveConfig.parse(save_config)
        self.modules: dict[Any, tuple[bool, bool]] = {}
        """Module -> whether its inputs and whether its outputs belong here."""

    def include(self, t: str | list[str]) -> None:
        """Take in the tensors in whose names the regular expression is found."""
        for each in t if isinstance(t, list | tuple | set) else [t]:
            if not isinstance(each, str):
                raise SMDebugTypeError("Can only include str or list")
            try:
                re.compile(each)
            except re.error as error:
                raise SMDebugValueError(
                    f"{each!r} of collection {self.name} is no regular expression: {error}"
                ) from None
            self.include_regex.append(each)

    def add_module_tensors(self, module: Any, inputs: bool = False, outputs: bool = True) -> None:
        """Take in what the module is given or what it returns."""
        self.modules[module] = (inputs, outputs)

    def has_tensor_name(self, tname: str) -> bool:
        """Whether it was named."""
        return tname in self.tensor_names

    def add_tensor_name(self, tname: str) -> None:
        """Take in one tensor by name."""
        self.tensor_names.add(tname)

    def remove_tensor_name(self, tname: str) -> None:
        """Leave it out again."""
        self.tensor_names.discard(tname)

    def holds(self, tensor: str) -> bool:
        """Whether the tensor of that name belongs to it."""
        return tensor in self.tensor_names or any(re.search(each, tensor) for each in self.include_regex)

    def to_json_dict(self) -> dict[str, Any]:
        """As a dictionary that `from_dict` takes."""
        return {
            "name": self.name,
            "include_regex": self.include_regex,
            "tensor_names": sorted(self.tensor_names),
            "reduction_config": self.reduction_config and self.reduction_config.to_json_dict(),
            "save_config": self.save_config and self.save_config.to_json_dict(),
            "save_histogram": self.save_histogram,
        }

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(self.to_json_dict())

    @classmethod
    def from_dict(cls, params: Mapping[str, Any]) -> Self:
        """From a dictionary."""
        reduction, save = params.get("reduction_config"), params.get("save_config")
        return cls(
            params["name"],
            params.get("include_regex"),
            params.get("tensor_names"),
            ReductionConfig.from_dict(reduction),
            SaveConfig.from_dict(save),
            params.get("save_histogram", True),
        )

    def __repr__(self) -> str:
        return f"<class Collection: name={self.name}>"

    def __str__(self) -> str:
        return str(self.to_json_dict())


class CollectionManager:
    """The collections of a hook or a trial by name."""

    def __init__(self, collections: dict[str, Collection] | None = None, create_default: bool = True) -> None:
        self.collections = {} if collections is None else collections
        for name, regex in BUILT_IN.items() if create_default else ():
            self.collections.setdefault(name, Collection(name, regex))

    def get_collections(self) -> dict[str, Collection]:
        """All by name."""
        return self.collections

    def add(self, arg: str | Collection) -> None:
        """Add one; of a name that is taken the newest counts."""
        if isinstance(arg, Collection):
            self.collections[arg.name] = arg
        else:
            self.collections.setdefault(arg, Collection(arg))

    def get(self, name: str, create: bool = True) -> Collection:
        """That one; made where it is not there and `create` is true."""
        if name not in self.collections:
            if not create:
                raise SMDebugError(f"Collection {name} has not been created")
            self.collections[name] = Collection(name)
        return self.collections[name]


def words(text: str) -> list[str]:
    """What stands between commas."""
    return [each.strip() for each in str(text).split(",") if each.strip()]


def boolean(given: Any) -> bool:
    """SageMaker hands every value over as text."""
    if isinstance(given, str) and given.strip().lower() in ("true", "false", "1", "0"):
        return given.strip().lower() in ("true", "1")
    if isinstance(given, bool | int):
        return bool(given)
    raise SMDebugValueError(f"boolean argument expected, but found {given!r}")
