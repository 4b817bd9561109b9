"""OpenVINO without its telemetry: its converter reports every import to Google Analytics from a forked process."""

import importlib
import sys
from typing import Any

TELEMETRY = "openvino_telemetry"


def openvino() -> Any:
    """The module `openvino`, which does without the telemetry package where that cannot be imported."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault(TELEMETRY, None)  # an import of it now fails, which the converter is prepared for
    return importlib.import_module("openvino")
