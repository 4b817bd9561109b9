"""Pretrained weights and pickles in a script's or handler's own process: guarded when their modules are imported.

Called at the start of the process by `start/sitecustomize.py`; imports nothing that Python has not loaded, until then.
"""

import os
import sys
from importlib.machinery import PathFinder

VARIABLE = "HOUNDSIGHT_HUB"
"""Environment variable of a script's process: set where all this is wanted."""
TRUSTED = "HOUNDSIGHT_TRUST_PICKLE"
"""Environment variable: folders, between os.pathsep, whose pickles `torch.load` may run."""
GUARDED = ("torch.hub", "torch.serialization", "huggingface_hub.file_download")
"""Modules that `guards` knows."""


def install() -> None:
    """Guard the downloads and `torch.load` of this process, whether their modules are imported already or later."""
    if not os.environ.get(VARIABLE) or any(isinstance(each, _Finder) for each in sys.meta_path):
        return
    for name in GUARDED:
        if name in sys.modules:
            _guard(sys.modules[name])
    sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]  # its protocol, without importing what has its name


def _guard(module: object) -> None:
    from houndsight.scripts.guards import GUARDS

    GUARDS[module.__name__](module)  # type: ignore[attr-defined]  # a module has a name


class _Finder:
    """Finds a guarded module as Python would, and guards it when it has been executed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """The module's own specification; nothing of any other module."""
        found = PathFinder.find_spec(name, path, target) if name in GUARDED else None  # type: ignore[arg-type]
        if found is not None and found.loader is not None:
            execute = found.loader.exec_module

            def executed(module: object) -> None:
                execute(module)  # type: ignore[arg-type]
                _guard(module)

            found.loader.exec_module = executed  # type: ignore[method-assign]
        return found
