"""Packages that do more than they are asked to, held back: telemetry is off, and OpenVINO's core is never let go.

OpenVINO's converter reports every import to Google Analytics from a forked process; onnxruntime keeps a database below
`~/.cache` and uploads it from threads of its own. Nothing of ours reaches the network unless it was asked to.
"""

import importlib
import os
import sys
from functools import cache
from typing import Any

TELEMETRY = "openvino_telemetry"


def openvino() -> Any:
    """The module `openvino`, which does without the telemetry package where that cannot be imported."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault(TELEMETRY, None)  # an import of it now fails, which the converter is prepared for
    return importlib.import_module("openvino")


@cache
def core() -> Any:
    """The one `openvino.Core` of this process, which lives as long as it does.

    Its CPU plugin gives the thread that makes it a stack for signals on processors with AVX-512 or AMX, and unmaps that
    stack with the last core, whichever thread lets go of it: the next signal with a handler, SIGCHLD of a data worker
    or SIGTERM, then ends the process by SIGSEGV without a word.
    """
    return openvino().Core()


def reason(error: RuntimeError) -> str:
    """What OpenVINO says at the end of an error, behind the places in its own source."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return said[-1].strip()


def onnxruntime() -> Any:
    """The module `onnxruntime`, told to be silent; raises `ImportError` where it is not installed."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported
    return importlib.import_module("onnxruntime")
