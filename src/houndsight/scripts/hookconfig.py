"""SageMaker's DebugHookConfig, read: what a hook of `smdebug` saves and when; between the job's settings and the hook.

A configuration of SageMaker never ends a training: what cannot be understood is named in a warning and left out.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from houndsight.scripts.smdebug_config import (
    BUILT_IN,
    Collection,
    ReductionConfig,
    SaveConfig,
    SaveConfigMode,
    boolean,
    words,
)
from houndsight.scripts.smdebug_errors import ModeKeys, SMDebugError
from houndsight.watch import plan

log = logging.getLogger("houndsight")

STEPS = ("save_interval", "save_steps", "start_step", "end_step")
HOOK = {
    *("dry_run", "save_all", "include_workers", "include_regex", "reductions", "save_raw_tensor", "save_shape"),
    *("export_tensorboard", "tensorboard_dir", "save_histogram"),
}
COLLECTION = {"include_regex", "tensor_names", "reductions", "save_raw_tensor", "save_shape", "save_histogram"}
RULES = {"relu_input": (r".*relu\d*_input", r".*act\d*_input"), "gradients": BUILT_IN["gradients"]}
"""Collections that the rules of most projects have SageMaker save, and what belongs to them."""
_SIDE = re.compile(r"_(?:in|out)put(?:_(?:\\d[+*]?|\d+|\.\*)?)?\$?$")


@dataclass
class HookConfig:
    """What a hook is made from."""

    out_dir: str | None = None
    dry_run: bool = False
    save_config: SaveConfig = field(default_factory=SaveConfig)
    reduction_config: ReductionConfig | None = None
    include_regex: list[str] | None = None
    include_collections: list[str] | None = None
    save_all: bool = False
    include_workers: str = "one"
    collections: list[Collection] = field(default_factory=list)
    """Those with a configuration of their own."""
    automatic: bool = False
    """Nobody asked for any of it: what is large is saved as reductions."""
    warnings: list[str] = field(default_factory=list)
    """What was not understood, a sentence each."""


def read(config: Mapping[str, Any] | None) -> HookConfig:
    """Of the JSON document that SageMaker writes as `debughookconfig.json`; None stands for SageMaker's own choice."""
    if config is None:
        collections = [Collection(name, regex) for name, regex in RULES.items()]
        return HookConfig(include_collections=list(RULES), collections=collections, automatic=True)
    found = HookConfig(out_dir=config.get("LocalPath"))
    _Reader(found).read(config)
    for each in found.warnings:
        log.warning("In the debugger's hook configuration: %s", each)
    return found


class _Reader:
    def __init__(self, found: HookConfig) -> None:
        self._found = found

    def read(self, config: Mapping[str, Any]) -> None:
        found = self._found
        given = self._texts(config.get("HookParameters"), "HookParameters", HOOK)
        base = {mode: self._steps(given, mode, {}) for mode in ModeKeys}
        found.save_config = self._save_config(base, "HookParameters")
        found.reduction_config = self._reductions(given, "HookParameters")
        for name in ("dry_run", "save_all"):
            if name in given:
                try:
                    setattr(found, name, boolean(given[name]))
                except SMDebugError as error:
                    found.warnings.append(f"{name}: {error}")
        if "include_regex" in given:
            found.include_regex = self._regexes(given["include_regex"], "HookParameters")
        if given.get("include_workers") in ("one", "all"):
            found.include_workers = str(given["include_workers"])
        listed = config.get("CollectionConfigurations")
        if listed is None:
            return
        found.include_collections = []
        for each in listed if isinstance(listed, list) else []:
            self._collection(each, base)

    def _collection(self, given: Any, base: dict[ModeKeys, dict[str, Any]]) -> None:
        found = self._found
        name = given.get("CollectionName") if isinstance(given, Mapping) else None
        if not isinstance(name, str) or not name:
            found.warnings.append(f"a collection without a CollectionName was left out: {given}")
            return
        values = self._texts(given.get("CollectionParameters"), name, COLLECTION)
        own = {mode: self._steps(values, mode, base[mode]) for mode in ModeKeys}
        regex = [*BUILT_IN.get(name, ()), *self._regexes(values.get("include_regex", ""), name)]
        tensors = words(values.get("tensor_names", ""))
        if not regex and not tensors and name not in BUILT_IN:
            # SageMaker ends the training here; the name is mostly that of the tensor which is meant.
            regex = [re.escape(name)]
            found.warnings.append(f"collection {name} has no include_regex; tensors of its name are saved")
        assert found.include_collections is not None
        found.include_collections.append(name)
        reduction = self._reductions(values, name)
        found.collections.append(Collection(name, regex, tensors, reduction, self._save_config(own, name)))

    def _texts(self, given: Any, where: str, known: set[str]) -> dict[str, Any]:
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            self._found.warnings.append(f"{where} is no dictionary and was left out")
            return {}
        prefixes = ("", *(f"{mode.name.lower()}." for mode in ModeKeys))
        known = known | {prefix + name for prefix in prefixes for name in STEPS}
        for name in given:
            if name not in known:
                self._found.warnings.append(f"{name} of {where} is unknown and was left out")
        return {name: value for name, value in given.items() if name in known and value is not None}

    @staticmethod
    def _steps(given: Mapping[str, Any], mode: ModeKeys, base: Mapping[str, Any]) -> dict[str, Any]:
        prefix = f"{mode.name.lower()}."
        own = {name: given.get(prefix + name, given.get(name)) for name in STEPS}
        return {**base, **{name: value for name, value in own.items() if value is not None}}

    def _save_config(self, given: Mapping[ModeKeys, Mapping[str, Any]], where: str) -> SaveConfig:
        modes: dict[ModeKeys, SaveConfigMode | None] = {}
        for mode, values in given.items():
            arguments = dict(values)
            try:
                if isinstance(arguments.get("save_steps"), str):
                    arguments["save_steps"] = [int(each) for each in words(arguments["save_steps"])]
                modes[mode] = SaveConfigMode(**arguments)
            except ValueError as error:
                self._found.warnings.append(f"steps of {where} for {mode.name}: {error}; the usual ones are saved")
                modes[mode] = SaveConfigMode()
        return SaveConfig(modes)

    def _reductions(self, given: Mapping[str, Any], where: str) -> ReductionConfig | None:
        if "reductions" not in given:
            return None
        try:
            return ReductionConfig.from_dict(given)
        except SMDebugError as error:
            self._found.warnings.append(f"reductions of {where}: {error}; the tensors themselves are saved")
            return None

    def _regexes(self, text: str, where: str) -> list[str]:
        found = []
        for each in words(text):
            try:
                re.compile(each)
            except re.error as error:
                self._found.warnings.append(f"{each!r} of {where} is no regular expression ({error}) and was left out")
            else:
                found.append(each)
        return found


def from_sagemaker(config: Mapping[str, Any] | None) -> plan.DebugSpec:
    """What the debugger is to take besides its own choice: inputs and outputs of the modules that collections name.

    Its steps stay its own: a rule that is fed every 500th step only, as SageMaker's are, finds next to nothing.
    """
    modules: dict[str, plan.Collection] = {}
    for each in read(config).collections if config is not None else ():
        wanted = tuple(
            pattern
            for regex in each.include_regex
            if regex not in BUILT_IN["losses"]
            and _SIDE.search(regex)
            and (pattern := _SIDE.sub("", regex))
            and _valid(pattern)
        )
        if wanted:
            modules[each.name] = plan.Collection(include=("(?!)",), modules=wanted)
    return plan.DebugSpec(collections=modules)


def _valid(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
