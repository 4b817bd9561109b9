"""Does an instance's memory stay flat under mixed load? Good, broken, large, half-sent and abandoned requests at once.

    python -m benchmarks.serving.soak [--minutes 10] [--work DIR]

Prints the memory (MB, proportional) once every ten seconds, and its growth from the second minute to the end.
"""

import argparse
import json
import random
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from benchmarks.serving import material
from benchmarks.serving.__main__ import free_port, ours, running

CALLERS = 6


def call(port: int, files: list[bytes], stop: threading.Event, counts: dict[str, int], seed: int) -> None:
    """One caller of mixed temper."""
    rng = random.Random(seed)
    address = f"http://127.0.0.1:{port}"
    while not stop.is_set():
        body = rng.choice(files)
        kind = rng.choices(["good", "broken", "large", "half", "gone", "metrics"], [60, 15, 3, 5, 12, 5])[0]
        counts[kind] = counts.get(kind, 0) + 1
        try:
            if kind in ("half", "gone"):
                with socket.create_connection(("127.0.0.1", port), 5) as line:
                    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
                    line.sendall(head + body[: len(body) // 2 if kind == "half" else None])
                continue
            if kind == "metrics":
                urllib.request.urlopen(f"{address}/metrics", timeout=60).read()
                continue
            data = {"good": body, "broken": body[: rng.randrange(len(body))], "large": bytes(7 * 2**20)}[kind]
            urllib.request.urlopen(urllib.request.Request(f"{address}/invocations", data), timeout=60).read()
        except urllib.error.HTTPError as error:
            error.close()
            name = str(error.code)
            counts[name] = counts.get(name, 0) + 1
        except OSError as error:
            name = type(error).__name__
            counts[name] = counts.get(name, 0) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory under mixed load.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--work", type=Path, default=Path("~/.cache/houndsight-bench/serving"))
    asked = parser.parse_args()
    work = asked.work.expanduser().absolute()
    material.make(work)
    model = material.prepared(work, "auto")
    assert model is not None, "the benchmark's own model is sound"
    files = [path.read_bytes() for path in sorted((work / "data").iterdir())]
    port, stop, counts = free_port(), threading.Event(), dict[str, int]()
    with running(ours(model, work, port), port, False, work / "soak.log") as (pid, _, _):
        process = psutil.Process(pid)
        callers = [threading.Thread(target=call, args=(port, files, stop, counts, seed)) for seed in range(CALLERS)]
        for caller in callers:
            caller.start()
        end, sizes = time.monotonic() + 60 * asked.minutes, list[float]()
        while time.monotonic() < end:
            stop.wait(min(10, max(0.1, end - time.monotonic())))
            sizes.append(process.memory_full_info().pss / 1e6)
            print(f"{sizes[-1]:8.1f} MB, {process.num_threads()} threads, {process.num_fds()} files", file=sys.stderr)
        stop.set()
        for caller in callers:
            caller.join()
    settled = sizes[min(6, len(sizes) // 3) :]
    print(json.dumps({"minutes": asked.minutes, "first": settled[0], "last": settled[-1], "counts": counts}, indent=1))


if __name__ == "__main__":
    main()
