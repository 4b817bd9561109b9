"""Plays an instance for its supervisor: speaks on the line as one does, and lives as its first argument says.

sound          is ready, beats, ends when it is asked to
crash SECONDS  is ready, and gone after that time
hang           is ready, and then says nothing
stubborn       is ready, beats, and does not hear SIGTERM
refuse         says why it cannot serve
mute           ends without a word
"""

import json
import signal
import socket
import sys
import time
from types import FrameType


def main() -> None:
    how, *rest = sys.argv[1:-2]
    line = socket.socket(fileno=int(sys.argv[-1]))

    def tell(**event: object) -> None:
        line.sendall(json.dumps(event).encode() + b"\n")

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if how == "stubborn" else leave)
    if how == "mute":
        sys.exit(3)
    if how == "refuse":
        tell(event="failed", error={"kind": "ModelError", "message": "The weights are damaged.", "repair": "Copy."})
        sys.exit(1)
    tell(event="ready")
    if how == "hang":
        signal.pause()
    until = time.monotonic() + (float(rest[0]) if rest else 3600)
    beats = 0
    line.settimeout(0.05)
    while time.monotonic() < until:
        beats += 1
        tell(event="beat", requests=beats, errors=beats // 3 if how == "failing" else 0)
        try:
            if not line.recv(65536):
                sys.exit(0)
        except TimeoutError:
            continue
    sys.exit(9)


if __name__ == "__main__":
    main()
