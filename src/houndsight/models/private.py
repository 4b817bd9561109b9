"""Packages that report home, without their telemetry: nothing of ours reaches the network unless it was asked to.

OpenVINO's converter reports every import to Google Analytics from a forked process; onnxruntime keeps a database below
`~/.cache` and uploads it from threads of its own.
"""

import importlib
import os
import sys
from typing import Any

TELEMETRY = "openvino_telemetry"


def openvino() -> Any:
    """The module `openvino`, which does without the telemetry package where that cannot be imported."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault(TELEMETRY, None)  # an import of it now fails, which the converter is prepared for
    return importlib.import_module("openvino")


def onnxruntime() -> Any:
    """The module `onnxruntime`, told to be silent; raises `ImportError` where it is not installed."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported
    return importlib.import_module("onnxruntime")
