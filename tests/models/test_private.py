"""Nothing of what is converted is reported to anybody, and a network that is let go of takes nothing with it."""

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


LET_GO = """
import faulthandler, gc, os, signal, sys, threading
faulthandler.enable()  # with a stack of its own for signals, as test runs and servers have it
import numpy as np
from houndsight.models import private
ov = private.openvino()
from openvino import opset8 as ops
given = ops.parameter([1, 4], np.float32, name="x")
network = ov.Model([ops.relu(given)], [given], "relu")
held = [private.core().compile_model(network, "CPU", {})]  # with a core of its own: SIGSEGV below
held[0]([np.ones((1, 4), np.float32)])
def let_go():
    held.clear()
    gc.collect()
letting = threading.Thread(target=let_go)
letting.start()
letting.join()
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
os.kill(os.getpid(), signal.SIGUSR1)
print(heard)
"""


def test_signals_are_heard_after_a_network_was_let_go_by_another_thread() -> None:
    done = subprocess.run([sys.executable, "-c", LET_GO], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[1]"), done.stderr
