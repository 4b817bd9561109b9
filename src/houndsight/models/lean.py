"""torchvision's networks without torch's compiler: their import takes 0.6 s of CPU instead of 5.4; beneath `backbones`.

One file of torchvision (ops/roi_align.py) asks `torch._dynamo` for a function that only compiled object detection
calls, and importing that package takes 4.8 s. While torchvision is imported something stands in for it which imports
the real one as soon as anybody asks for more; afterwards it is gone. Making an optimizer imports the real one.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_PACKAGE, _UTILS = "torch._dynamo", "torch._dynamo.utils"


def torchvision_models() -> Any:
    """The module `torchvision.models`."""
    if "torchvision" not in sys.modules and _PACKAGE not in sys.modules:
        sys.modules.update({name: _stand_in(name) for name in (_PACKAGE, _UTILS)})
        vars(sys.modules[_UTILS])["is_compile_supported"] = _is_compile_supported
        try:
            return importlib.import_module("torchvision.models")
        finally:
            _remove()
    return importlib.import_module("torchvision.models")


def _stand_in(name: str) -> ModuleType:
    def ask(attribute: str) -> Any:
        if attribute.startswith("__"):  # `inspect` asks every module for its file
            raise AttributeError(attribute)
        _remove()
        return getattr(importlib.import_module(name), attribute)

    module = ModuleType(name)
    vars(module)["__getattr__"] = ask
    return module


def _remove() -> None:
    for name in (_PACKAGE, _UTILS):
        if "__getattr__" in vars(sys.modules.get(name, ModuleType(name))) and sys.modules[name].__spec__ is None:
            del sys.modules[name]


def _is_compile_supported(device: str) -> Any:
    return importlib.import_module(_UTILS).is_compile_supported(device)
