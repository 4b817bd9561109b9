"""CPU time a request of the whole process tree, requests a second, p50 and p99, side by side in one run.

    python -m benchmarks.serving [ROW...] [--callers 1,8,32] [--rounds 3] [--requests 300] [--work DIR]

Rows: `ours@bf16`, `ours@f32`, `ours@int8`; `plain@...` is a uvicorn app of ten lines with the same model; peers are
`litserve`, `bento-mp`, `ray`, `torchserve`, `fastapi`, as people deploy them (eager float32), or `...@ov_bf16`,
`...@ov_int8` with the same compiled network. Peers need `bench/serving` in `$HOUNDSIGHT_TEST_ASSETS` (default
`../shared`) and their virtual environments below `$BENCH_ENVS`; without them they are left out. The limit is bare
decoding and computing in one process at the batch that the callers allow. On a busy machine trust the CPU time.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serving import material

THREADS = 2
START_SECONDS = 300.0
RUNTIMES = {"bf16": "openvino-bf16", "f32": "openvino-f32", "int8": "openvino-int8"}
USUAL = ["ours@bf16", "plain@bf16"]
ONE = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass
class Row:
    """How to start one server, and how it wants its images."""

    command: list[str]
    environment: dict[str, str]
    folder: Path
    data: Path
    path: str = "/invocations"
    kind: str = "image/jpeg"


def ours(model: Path, work: Path, port: int) -> Row:
    file = work / "settings.json"
    file.write_text(json.dumps({"model": str(model), "threads": THREADS}))
    command = [sys.executable, "-m", "houndsight.serving.instance", "--name", "bench", "--variant", "A"]
    return Row([*command, "--settings", str(file), "--listen", f"127.0.0.1:{port}"], ONE, work, work / "data")


def plain(model: Path, work: Path, port: int) -> Row:
    command = [sys.executable, "-m", "benchmarks.serving.plain", "app", str(model), str(port)]
    return Row(command, ONE, Path.cwd(), work / "data")


def peer(name: str, peers: Path, work: Path, port: int) -> Row:
    framework, _, predictor = name.partition("@")
    environments = Path(os.environ.get("BENCH_ENVS", "~/.cache/serving-bench")).expanduser()
    serve, bento = environments / "serve" / "bin", environments / "bento" / "bin"
    commands = {
        "fastapi": [str(serve / "uvicorn"), "s_fastapi:app", "--port", str(port), "--workers", str(THREADS),
                    "--no-access-log", "--log-level", "warning"],
        "litserve": [str(serve / "python"), "s_litserve.py", str(port)],
        "ray": [str(serve / "python"), "s_ray.py", str(port)],
        "bento-mp": [str(bento / "bentoml"), "serve", "s_bento1:Model", "--port", str(port), "--host", "127.0.0.1"],
        "torchserve": ["bash", "run_torchserve.sh", str(port)],
    }  # fmt: skip
    settings = {
        "PRED": predictor or "eager",
        "W": str(THREADS),
        "MB": "8",
        "BT": "0.002",
        "BENTOML_DO_NOT_TRACK": "True",
    }
    row = Row(commands[framework], ONE | settings, peers / "servers", work / "data")
    if framework == "bento-mp":
        row.data, row.kind = peers / "data_form", "multipart/form-data; boundary=XBOUNDX"
    if framework == "torchserve":
        row.path = "/predictions/m"
    return row


def tree(pid: int, before: set[int], ray: bool) -> list[psutil.Process]:
    """Every process of a server; Ray's leave the tree and are found by their command lines."""
    try:
        root = psutil.Process(pid)
        found = {each.pid: each for each in [root, *root.children(recursive=True)]}
    except psutil.Error:
        return []
    if ray:
        for each in psutil.process_iter():
            try:
                if each.pid not in before and "ray" in " ".join(each.cmdline()):
                    found[each.pid] = each
            except psutil.Error:
                continue
    return list(found.values())


def spent(processes: list[psutil.Process]) -> float:
    """CPU seconds."""
    total = 0.0
    for each in processes:
        try:
            times = each.cpu_times()
            total += times.user + times.system
        except psutil.Error:
            continue
    return total


def memory(processes: list[psutil.Process]) -> float:
    """MB, shared pages in shares."""
    total = 0
    for each in processes:
        try:
            total += each.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e6


@contextmanager
def running(row: Row, port: int, ray: bool, log: Path) -> Iterator[tuple[int, set[int], float]]:
    """Start a server and wait for its first answer; end it and all that it started."""
    before, start = set(psutil.pids()), time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(
            row.command, cwd=row.folder, env=row.environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        body = next(iter(sorted(row.data.iterdir()))).read_bytes()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{row.path}", body, {"Content-Type": row.kind})
        while True:
            try:
                urllib.request.urlopen(request, timeout=30).read()
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - start > START_SECONDS:
                    raise RuntimeError(f"it did not start; see {log}") from None
                time.sleep(0.1)
        yield process.pid, before, time.perf_counter() - start
    finally:
        everybody = tree(process.pid, before, ray)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for each in everybody:
                try:
                    each.send_signal(number)
                except psutil.Error:
                    continue
            psutil.wait_procs(everybody, timeout=8)
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def measure(name: str, row: Row, port: int, asked: argparse.Namespace, work: Path) -> list[dict[str, float | str]]:
    ray, found = name.startswith("ray"), []
    with running(row, port, ray, work / f"{name}.log") as (pid, before, up):

        def load(callers: int, requests: int) -> dict[str, float]:
            command = [sys.executable, "-m", "benchmarks.serving.load", str(port), row.path, row.kind, str(row.data)]
            done = subprocess.run([*command, str(callers), str(requests)], capture_output=True, text=True, check=True)
            numbers: dict[str, float] = json.loads(done.stdout)
            return numbers

        load(8, 60)
        for callers in asked.callers:
            processes = tree(pid, before, ray)
            start = spent(processes)
            numbers = load(callers, asked.requests)
            cpu = (spent(processes) - start) * 1e3 / max(1, numbers["n"])
            found.append({"row": name, "callers": callers, "cpu_ms": cpu, "up": up, "mb": memory(processes), **numbers})
    return found


def limit(model: Path, work: Path, callers: int) -> float:
    """CPU ms an image without HTTP, at the batch that so many callers allow."""
    batch = min(8, max(1, callers // THREADS))
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving.plain",
        "limit",
        str(model),
        str(work / "data"),
        str(batch),
        "96",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ONE)
    return float(json.loads(done.stdout)["cpu_ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Serving side by side.")
    parser.add_argument("rows", nargs="*", default=USUAL)
    parser.add_argument("--callers", type=lambda text: [int(each) for each in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--work", type=Path, default=Path("~/.cache/houndsight-bench/serving"))
    asked = parser.parse_args()
    work = asked.work.expanduser().absolute()
    material.make(work)
    kinds = {name.partition("@")[2].removeprefix("ov_") or "eager" for name in asked.rows}
    folders = {RUNTIMES[kind]: material.prepared(work, RUNTIMES[kind]) for kind in sorted(kinds & set(RUNTIMES))}
    known = {runtime: folder for runtime, folder in folders.items() if folder is not None}
    assets = Path(os.environ.get("HOUNDSIGHT_TEST_ASSETS") or Path(__file__).parents[2].parent / "shared")
    harness = assets / "bench" / "serving"
    peers = material.for_peers(work, harness, known) if harness.is_dir() else None
    results: list[dict[str, float | str]] = []
    for turn in range(asked.rounds):
        shift = turn % len(asked.rows)
        for name in [*asked.rows[shift:], *asked.rows[:shift]]:
            framework, _, kind = name.partition("@")
            model, port = known.get(RUNTIMES.get(kind.removeprefix("ov_"), "")), free_port()
            try:
                if framework in ("ours", "plain"):
                    if model is None:
                        continue
                    row = (ours if framework == "ours" else plain)(model, work, port)
                elif peers is None:
                    continue
                else:
                    row = peer(name, peers, work, port)
                found = measure(name, row, port, asked, work)
            except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            if framework == "ours" and model is not None:
                for each in found:
                    each["limit_ms"] = limit(model, work, int(each["callers"]))
            results += found
            for each in found:
                print(
                    f"{name:18}{each['callers']:>3} callers {each['cpu_ms']:7.2f} CPU ms", file=sys.stderr, flush=True
                )
    tell(results)


def tell(results: list[dict[str, float | str]]) -> None:
    """Medians of the rounds; JSON to standard output, a table to standard error."""
    keys = sorted({(int(each["callers"]), str(each["row"])) for each in results})
    table = []
    for callers, name in keys:
        rows = [each for each in results if (each["callers"], each["row"]) == (callers, name)]
        numbers = ("cpu_ms", "limit_ms", "rps", "p50", "p99", "mb", "up")
        median = {
            key: round(statistics.median(float(each[key]) for each in rows if key in each), 2)
            for key in numbers
            if any(key in each for each in rows)
        }
        bad = sum(float(each["bad"]) + float(each["errors"]) for each in rows)
        table.append({"callers": callers, "row": name, "rounds": len(rows), **median, "bad": bad})
    print(json.dumps({"load": os.getloadavg()[0], "rows": table}, indent=1))
    head = ("CPU ms", "limit", "ratio", "rps", "p50", "p99", "MB", "up s", "bad")
    print(f"{'callers':8}{'row':22}" + "".join(f"{each:>9}" for each in head), file=sys.stderr)
    for each in table:
        ratio = each["cpu_ms"] / each["limit_ms"] if "limit_ms" in each else float("nan")  # type: ignore[operator]
        cells = [each["cpu_ms"], each.get("limit_ms", float("nan")), ratio, each["rps"], each["p50"], each["p99"],
                 each["mb"], each["up"], each["bad"]]  # fmt: skip
        print(
            f"{each['callers']:<8}{each['row']:22}" + "".join(f"{float(cell):9.2f}" for cell in cells), file=sys.stderr
        )


if __name__ == "__main__":
    main()
