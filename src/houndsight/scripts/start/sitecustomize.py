"""Runs at the start of every Python of a script job, before the script: arms the watcher for when torch is imported.

This folder comes first on PYTHONPATH. Nothing is imported here that a Python does not hold from its start, which costs
0.2 ms. Without the job's variable nothing happens, nor in a child of a process that is watched.
"""

import os
import sys

_NAME = "sitecustomize"
_VARIABLE, _WATCHED = "HOUNDSIGHT_HOOK", "HOUNDSIGHT_WATCHED"


class _Torch:
    """Finds torch as Python does, and arms the watcher once torch has been imported; then it is gone."""

    def __init__(self, settings: str) -> None:
        self._settings = settings
        self._loader: object = None

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """The specification of torch, with this object as its loader; of another module nothing."""
        if name != "torch":
            return None
        for finder in _others():
            found = finder.find_spec(name, path, target)
            if found is not None:
                self._loader, found.loader = found.loader, self
                return found
        return None

    def create_module(self, spec: object) -> object:
        """As torch's own loader does it."""
        return self._loader.create_module(spec)  # type: ignore[attr-defined]

    def exec_module(self, module: object) -> None:
        """Import torch, which keeps its own loader, and arm the watcher."""
        sys.meta_path[:] = _others()
        module.__loader__ = module.__spec__.loader = self._loader  # type: ignore[attr-defined]
        self._loader.exec_module(module)  # type: ignore[attr-defined]
        try:
            from houndsight.scripts import armed
        except ImportError:
            return  # another Python, in which Houndsight is not installed
        armed.arm(self._settings)

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)


def _others() -> list:  # type: ignore[type-arg]
    return [each for each in sys.meta_path if type(each).__name__ != _Torch.__name__]


def _guard() -> None:
    """Let `hub` guard weights and pickles; it is read alone, for importing its package takes 12 ms."""
    from importlib.machinery import SourceFileLoader

    if all(finder.find_spec("houndsight", None) is None for finder in sys.meta_path):
        return  # another Python, in which Houndsight is not installed
    name = "houndsight.scripts.hub"
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "hub.py")
    hub = type(sys)(name)
    SourceFileLoader(name, path).exec_module(hub)
    hub.install()


def _leave() -> None:
    """Go from the import path, and let another `sitecustomize`, where there is one, do what it does."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) != here]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(each for each in paths if os.path.abspath(each) != here)
    for finder in sys.meta_path:
        found = finder.find_spec(_NAME, None)
        if found is not None and found.loader is not None:
            other = type(sys)(_NAME)
            other.__spec__, other.__file__, other.__loader__ = found, found.origin, found.loader
            sys.modules[_NAME] = other
            found.loader.exec_module(other)
            return


_settings = os.environ.get(_VARIABLE, "")
if _settings and os.environ.get(_WATCHED, str(os.getpid())) == str(os.getpid()):
    sys.meta_path.insert(0, _Torch(_settings))  # type: ignore[arg-type]
if os.environ.get("HOUNDSIGHT_HUB"):
    _guard()
_leave()
