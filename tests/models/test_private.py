"""Nothing of what is converted is reported to anybody."""

import subprocess
import sys

CODE = """
import os, sys
started = []
sys.addaudithook(lambda event, _: started.append(event) if event in ("os.fork", "subprocess.Popen", "socket.connect",
                                                                      "socket.getaddrinfo") else None)
from houndsight.models.private import openvino
ov = openvino()
assert callable(ov.convert_model) and callable(ov.Core)
import openvino.tools.ovc.convert_impl
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
assert started == [], started
"""


def test_openvino_reports_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
