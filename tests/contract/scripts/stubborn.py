"""Forks workers that ignore SIGTERM, one of them in a session of its own, and never ends."""

# ruff: noqa: PTH118

import os
import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
for number in range(3):
    if os.fork() == 0:
        if number == 2:
            os.setsid()
        while True:
            time.sleep(1)
with open(os.path.join(os.environ["SM_MODEL_DIR"], "model.pth"), "w") as file:
    file.write("checkpoint")
print("forked", flush=True)
while True:
    time.sleep(1)
