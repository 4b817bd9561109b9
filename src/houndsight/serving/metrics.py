"""What an instance counts, as Prometheus reads it; the instances of an endpoint share their counters through files.

A scrape reaches whichever instance accepts it, so all of them are added up; CPU and memory are given per instance.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the bins, in seconds."""
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one instance; the compute threads and the event loop both write them."""

    def __init__(
        self, endpoint: str, variant: str, shared: Path | None = None, pids: Callable[[], Iterable[int]] | None = None
    ) -> None:
        """`shared` is a folder for all instances of the endpoint, `pids` who they are.

        With `shared`, this has to be the first use of prometheus_client in the process: it looks once, at import.
        """
        if shared is not None:
            shared.mkdir(parents=True, exist_ok=True)
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared)
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._shared, self._pids = shared, pids or (lambda: [os.getpid()])
        self._registry = CollectorRegistry()
        self.endpoint, self.variant = endpoint, variant
        names: dict[str, Any] = {"labelnames": ("endpoint", "variant"), "registry": self._registry}
        self._requests = Counter(
            "houndsight_requests", "Requests answered.", ("endpoint", "variant", "code"), registry=self._registry
        )
        histograms = {
            "request_seconds": ("From a whole request to its answer.", FAST),
            "queue_seconds": ("An image's wait in the queue.", FAST),
            "decode_seconds": ("Decoding and resizing a batch.", FAST),
            "forward_seconds": ("One forward pass of a batch.", FAST),
            "batch_images": ("Images of one forward pass.", SIZES),
        }
        self._request, self._queue, self._decode, self._forward, self._size = (
            Histogram(f"houndsight_{name}", text, buckets=bins, **names).labels(endpoint, variant)
            for name, (text, bins) in histograms.items()
        )
        self._waiting = Gauge(
            "houndsight_queue_images", "Images that wait.", multiprocess_mode="livesum", **names
        ).labels(endpoint, variant)
        self._codes: dict[int, Any] = {}
        self.requests = self.errors = 0

    def answered(self, status: int, seconds: float) -> None:
        """A request was answered with an HTTP status; in the event loop."""
        counter = self._codes.get(status)
        if counter is None:
            counter = self._codes[status] = self._requests.labels(self.endpoint, self.variant, str(status))
        counter.inc()
        self._request.observe(seconds)
        self.requests += 1
        self.errors += status >= 500

    def waited(self, seconds: float) -> None:
        """An image waited so long in the queue."""
        self._queue.observe(seconds)

    def batch(self, images: int, decode: float, forward: float) -> None:
        """A batch was computed; seconds."""
        self._size.observe(images)
        self._decode.observe(decode)
        self._forward.observe(forward)

    def queue(self, images: int) -> None:
        """So many images wait now."""
        self._waiting.set(images)

    def text(self) -> tuple[bytes, str]:
        """All instances' counters in Prometheus's text format, and its content type."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector
        from prometheus_client.registry import Collector

        registry = self._registry
        if self._shared is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, str(self._shared))  # type: ignore[no-untyped-call]
        machine = CollectorRegistry()
        usage = self._usage

        class Usage(Collector):
            def collect(self) -> Iterable[Any]:
                return usage()

        machine.register(Usage())
        return generate_latest(registry) + generate_latest(machine), "text/plain; version=0.0.4; charset=utf-8"

    def _usage(self) -> Iterable[Any]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        labels = ["endpoint", "pid"]
        cpu = CounterMetricFamily("houndsight_instance_cpu_seconds", "CPU time of an instance.", labels=labels)
        memory = GaugeMetricFamily(
            "houndsight_instance_memory_bytes", "Memory of an instance; shared pages in shares.", labels=labels
        )
        for pid in self._pids():
            found = usage(pid)
            if found is not None:
                cpu.add_metric([self.endpoint, str(pid)], found[0])
                memory.add_metric([self.endpoint, str(pid)], found[1])
        return [cpu, memory]


def usage(pid: int) -> tuple[float, int] | None:
    """CPU seconds and bytes of memory of a process and of those it started, as handlers are; None if it is gone.

    Memory is the proportional set size where the system knows it: what instances share counts once for all of them.
    """
    import psutil

    seconds, memory = 0.0, 0
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            seconds += times.user + times.system
            memory += _proportional(each.pid) or each.memory_info().rss
    except psutil.Error:
        return (seconds, memory) if memory else None
    return seconds, memory


def _proportional(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)


def forget(shared: Path, pid: int) -> None:
    """Take the gauges of an ended instance out of the sums; its counters stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, str(shared))  # type: ignore[no-untyped-call]
