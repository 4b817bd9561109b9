"""The hook of `smdebug`: what a script makes, configures and hands its model to; it lets the saver save.

In a job the one hook that the script makes without a path of its own writes into the job's `debug-output/`. Where a
script that mentions `smdebug` runs outside of a job (an endpoint's handlers, a notebook), a hook without an `out_dir`
is there and saves nothing.
"""

import atexit
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from houndsight.scripts import hookconfig
from houndsight.scripts.hookconfig import HookConfig
from houndsight.scripts.settings import VARIABLE, HookSettings
from houndsight.scripts.smdebug_config import (
    Collection,
    CollectionKeys,
    CollectionManager,
    ReductionConfig,
    SaveConfig,
)
from houndsight.scripts.smdebug_errors import (
    ModeKeys,
    SMDebugNotImplementedError,
    SMDebugTypeError,
    SMDebugValueError,
)
from houndsight.scripts.smdebug_moment import MOST_BYTES
from houndsight.scripts.smdebug_saver import Saver
from houndsight.scripts.smdebug_store import FOLDER, Writer
from houndsight.watch.workers import rank

log = logging.getLogger("houndsight")

CONFIG = "SMDEBUG_CONFIG_FILE_PATH"
"""Variable that names smdebug's JSON configuration."""
BASE = "SAGEMAKER_BASE_DIR"
"""Variable by which a script learns its job's folder."""
PLATFORM_FOLDER = "/opt/ml/output/tensors"
"""Where SageMaker's own configuration has hooks write."""
_MODES = {ModeKeys.TRAIN: "train", ModeKeys.EVAL: "eval", ModeKeys.PREDICT: "predict", ModeKeys.GLOBAL: "global"}


class Hook:
    """Saves tensors of a training."""

    def __init__(
        self,
        out_dir: str | os.PathLike[str] | None = None,
        export_tensorboard: bool = False,
        tensorboard_dir: str | None = None,
        dry_run: bool = False,
        reduction_config: ReductionConfig | None = None,
        save_config: SaveConfig | Mapping[Any, Any] | None = None,
        include_regex: Iterable[str] | str | None = None,
        include_collections: Iterable[str] | str | None = None,
        save_all: bool = False,
        include_workers: str = "one",
    ) -> None:
        """As smdebug's; nothing is exported to TensorBoard. Losses are always saved."""
        if export_tensorboard or tensorboard_dir:
            log.warning("smdebug's export to TensorBoard is not there: houndsight report draws the curves.")
        self.out_dir = _folder(out_dir)
        self.dry_run = dry_run or self.out_dir is None
        self.save_config = SaveConfig.parse(save_config)
        self.reduction_config, self.save_all = reduction_config, save_all
        self.include_workers = include_workers
        self.collection_manager = CollectionManager()
        self.include_collections = {"losses", *_listed(include_collections)}
        if include_regex is not None:
            self.get_collection(CollectionKeys.DEFAULT).include(list(_listed(include_regex)))
            self.include_collections.add(CollectionKeys.DEFAULT)
        if save_all:
            self.get_collection(CollectionKeys.ALL).include(".*")
            self.include_collections.add(CollectionKeys.ALL)
        self.worker = f"worker_{rank()}"
        self.has_registered_module = self.has_registered_loss_module = False
        self._prepared: list[Collection] = []
        self._written = -1
        writes = not self.dry_run and (rank() == 0 or include_workers == "all")
        self._writer = Writer(Path(self.out_dir), rank()) if writes and self.out_dir is not None else None
        self.saver = Saver(self._writer, self._select)
        """What takes the tensors."""
        for each in _made:
            if each.out_dir == self.out_dir:
                each.close()  # two of them would write into one file
        known = None if self._writer is None else self._writer.open()
        if known is None:
            self._writer, self.saver.closed = None, True
        else:
            self.saver.carry_on(known)
            atexit.register(self.close)
        set_hook(self)

    @classmethod
    def create_from_json_file(cls, json_file_path: str | None = None) -> Self:
        """Of SageMaker's configuration: of that file, of the one that the environment names, else of the job's own.

        In a job the hook that was made at its start is returned, so that nothing is saved twice.
        """
        path = json_file_path or os.environ.get(CONFIG)
        if path is not None:
            return cls.of(hookconfig.read(json.loads(Path(path).read_text(encoding="utf-8"))))
        own = begin()
        if isinstance(own, cls) and not own.saver.closed:
            set_hook(own)
            return own
        return cls.of(*_of_job())

    @classmethod
    def of(cls, config: HookConfig, out_dir: str | None = None) -> Self:
        """Of a configuration that was read."""
        hook = cls(
            out_dir or config.out_dir,
            dry_run=config.dry_run,
            reduction_config=config.reduction_config,
            save_config=config.save_config,
            include_regex=config.include_regex,
            include_collections=config.include_collections,
            save_all=config.save_all,
            include_workers=config.include_workers,
        )
        for each in config.collections:
            hook.add_collection(each)
        if config.automatic:
            hook.saver.most = MOST_BYTES
        return hook

    # ------------------------------------------------------------------------------------- what is watched

    def register_module(self, module: nn.Module) -> None:
        """Save tensors of this model; each of its forward passes is a step."""
        if not isinstance(module, nn.Module):
            raise SMDebugTypeError(f"Module type {type(module).__name__} must be type torch.nn.Module")
        self.has_registered_module = True
        self.saver.watch(module)
        _told("register_module", module)

    register_hook = register_module

    def register_loss(self, loss_module: Any) -> None:
        """Save what this loss returns. Losses of torch are saved without it, too."""
        if not isinstance(loss_module, nn.Module):
            log.warning("register_loss takes a module such as nn.CrossEntropyLoss(), not %r.", loss_module)
            return
        self.has_registered_loss_module = True
        self.saver.watch_loss(loss_module)
        _told("register_loss", loss_module)

    def set_mode(self, mode: Any) -> None:
        """Say what the coming steps belong to."""
        if not isinstance(mode, ModeKeys):
            raise SMDebugValueError(f"Invalid mode {mode}. Valid modes are {','.join(each.name for each in ModeKeys)}.")
        self.saver.mode = mode
        _told("set_mode", _MODES[mode])

    @property
    def mode(self) -> ModeKeys:
        """What the present step belongs to."""
        return self.saver.mode_now()

    @property
    def step(self) -> int:
        """The present step over all modes; -1 before the first."""
        return self.saver.step

    @property
    def mode_steps(self) -> dict[ModeKeys, int]:
        """Mode -> its present step."""
        return self.saver.mode_steps

    # ------------------------------------------------------------------------------------- what is saved

    def save_scalar(self, name: str, value: Any, sm_metric: bool = False, timestamp: float | None = None) -> None:
        """Save one number as `scalar/<name>`, in every step in which it is called."""
        del sm_metric, timestamp
        number = _array(value)
        if number.size != 1:
            raise SMDebugTypeError(f"scalar/{name} has non scalar value of type: {type(value)}")
        self.saver.scalar(f"scalar/{name}", number.reshape(()))
        _told("scalar", name, float(number.reshape(())))

    def save_tensor(
        self, tensor_name: str, tensor_value: Any, collections_to_write: str | Iterable[str] = CollectionKeys.DEFAULT
    ) -> None:
        """Save a tensor of the script's own, in every step in which it is called."""
        try:
            value = tensor_value if isinstance(tensor_value, torch.Tensor) else torch.from_numpy(_array(tensor_value))
        except (TypeError, ValueError):
            log.warning("The value of tensor %s could not be converted into numbers and was not saved.", tensor_name)
            return
        for name in _listed(collections_to_write):
            self.saver.save(tensor_name, value, self.get_collection(name))

    def record_tensor_value(self, tensor_name: str, tensor_value: torch.Tensor) -> None:
        """Save it as `<name>_output_<n>` where a collection holds it, such as what `F.mse_loss` returned."""
        if not isinstance(tensor_value, torch.Tensor):
            raise SMDebugTypeError(f"tensor_value={tensor_value} must be torch.Tensor")
        self.saver.record(tensor_name, tensor_value)

    def record_trace_events(self, *_given: Any, **_named: Any) -> None:
        """Nothing: where the time goes is recorded without it."""

    def get_collection(self, name: str, create: bool = True) -> Collection:
        """The collection of that name."""
        return self.collection_manager.get(name, create=create)

    def get_collections(self) -> dict[str, Collection]:
        """All collections by name."""
        return self.collection_manager.get_collections()

    def add_collection(self, collection: Collection) -> None:
        """Add a collection; it is saved where it is included, too."""
        if not isinstance(collection, Collection):
            raise SMDebugTypeError(f"collection must be a Collection, not {type(collection).__name__}")
        self.collection_manager.add(collection)

    def should_save_tensor_or_collection(self, tensor_name: str, collection_name: str) -> bool:
        """Whether the present step saves that tensor, or that collection."""
        held = [] if self.saver.now is None else self.saver.now.collections
        return any(each.name == collection_name or each.holds(tensor_name) for each in held)

    def has_default_hook_configuration(self) -> bool:
        """Whether nothing but losses was asked for."""
        return self.include_collections == {"losses"}

    has_default_configuration = has_default_hook_configuration

    def has_default_writer(self) -> bool:
        """Whether anything is written."""
        return self._writer is not None

    def close(self) -> None:
        """Write what is left and let go of the training; more than one call is allowed."""
        self._document()
        self.saver.close()

    _cleanup = close

    def __repr__(self) -> str:
        return f"<smdebug hook: {'nothing is saved' if self._writer is None else f'out_dir={self.out_dir}'}>"

    def _select(self, mode: ModeKeys, mode_step: int) -> list[Collection]:
        """The collections that are saved at that step."""
        self._document()
        without = (CollectionKeys.GRADIENTS,) if mode in (ModeKeys.EVAL, ModeKeys.PREDICT) else ()
        return [
            each
            for each in self._prepared
            if each.name not in without and each.save_config and each.save_config.should_save_step(mode, mode_step)
        ]

    def _document(self) -> None:
        """Complete the collections and write them down, where they are others than before."""
        every = self.get_collections()
        if self._writer is None or self.saver.closed or (len(every) == self._written and self._prepared):
            return
        for each in every.values():
            each.save_config = self.save_config if each.save_config is None else each.save_config.over(self.save_config)
            each.reduction_config = each.reduction_config or self.reduction_config
            for module, sides in each.modules.items():
                name = self.saver.name_of(module)
                for side, asked in zip(("input", "output"), sides, strict=True):
                    if asked and name is not None:
                        each.include(f"^{re.escape(name)}_{side}_")
        whole = CollectionKeys.ALL in self.include_collections
        self._prepared = [each for name, each in every.items() if whole or name in self.include_collections]
        self._written = len(every)
        workers = torch.distributed.get_world_size() if self.include_workers == "all" and _distributed() else 1
        self._writer.collections({name: each.to_json_dict() for name, each in every.items()}, workers)


class _Absent:
    """Stands for a part of smdebug that belongs to another framework."""

    def __init__(self, *_given: Any, **_named: Any) -> None:
        raise SMDebugNotImplementedError(
            f"{type(self).__name__.lstrip('_')} of smdebug is for TensorFlow, MXNet or XGBoost; "
            "Houndsight runs PyTorch scripts: use smdebug.pytorch.Hook."
        )

    @classmethod
    def create_from_json_file(cls, json_file_path: str | None = None) -> Self:
        """Raises `SMDebugNotImplementedError`."""
        del json_file_path
        return cls()


class KerasHook(_Absent):
    """TensorFlow's."""


class SessionHook(_Absent):
    """TensorFlow's."""


class EstimatorHook(_Absent):
    """TensorFlow's."""


def wrap_optimizer(*_given: Any, **_named: Any) -> None:
    """TensorFlow's. Raises `SMDebugNotImplementedError`."""
    raise SMDebugNotImplementedError("wrap_optimizer of smdebug is for TensorFlow; PyTorch's optimizers need none.")


_present: list[Hook] = []
_made: list[Hook] = []


def get_hook(json_config_path: str | None = None, create_if_not_exists: bool = False) -> Hook | None:
    """The hook of this process; None where there is none, unless it is to be made."""
    if not _present and create_if_not_exists:
        Hook.create_from_json_file(json_config_path)
    return _present[0] if _present else None


def set_hook(custom_hook: Hook) -> None:
    """Make this the hook of the process."""
    if not isinstance(custom_hook, Hook):
        raise SMDebugTypeError(f"custom_hook={custom_hook} must be a Hook")
    _present[:] = [custom_hook]


def del_hook() -> None:
    """The process has no hook any more; what the old one watches it goes on to save."""
    _present.clear()


def begin() -> Hook | None:
    """The hook of a job's script, which saves what SageMaker was told to, or saves by itself; None outside of jobs.

    A hook of the script's own that writes into the same place takes over from it.
    """
    if not _made and VARIABLE in os.environ:
        before = list(_present)
        _made.append(Hook.of(*_of_job()))
        _present[:] = before or _present
    return _made[0] if _made else None


def _of_job() -> tuple[HookConfig, str | None]:
    """Configuration and folder for the hook of this process, which is that of a job's script or of none."""
    given = os.environ.get(VARIABLE)
    if given is None:
        return HookConfig(), None
    settings = HookSettings.model_validate_json(Path(given).read_text(encoding="utf-8"))
    config = hookconfig.read(settings.hook_config)
    if settings.off:
        config = replace(config, dry_run=True)
    local = config.out_dir if config.out_dir and config.out_dir.rstrip("/") != PLATFORM_FOLDER else None
    return config, local or str(Path(settings.folder) / FOLDER)


def _folder(given: str | os.PathLike[str] | None) -> str | None:
    """Where to write: as said, else the job's own place; None outside of jobs."""
    base = os.environ.get(BASE) if VARIABLE in os.environ else None
    if given is None or str(given).rstrip("/") == PLATFORM_FOLDER:
        return None if base is None else str(Path(base) / FOLDER)
    return os.fspath(given)


def _told(method: str, *given: Any) -> None:
    """Let the job's own watcher know, too."""
    from houndsight.scripts import session  # it makes hooks itself

    present = session.current()
    if present is not None:
        tell: Callable[..., None] = getattr(present, method)
        tell(*given)


def _listed(given: Iterable[str] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())


def _array(value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, torch.Tensor):
        value = value.detach().float() if value.dtype == torch.bfloat16 else value.detach()
        return np.asarray(value.cpu().numpy())
    return np.asarray(value)


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
