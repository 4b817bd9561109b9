"""Seconds to build the page of 10,000 steps x 62 tensors: python -m benchmarks.report; at most 3 s are promised."""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tests.reports.factory import make_job
from tests.reports.watched import write_tensors

from houndsight.reports import summary

STEPS, TENSORS = 10_000, 62


def main() -> None:
    """Make a job of 10,000 steps, every one of them saved, and build its page three times."""
    with tempfile.TemporaryDirectory() as scratch:
        names = [f"{number:03d}.breed" for number in range(133)]
        job = make_job(Path(scratch) / "runs", classes=names, steps=STEPS, per_class=6, layers=2, samples=20_000)
        (job.records / "tensors.bin").unlink()
        write_tensors(job, np.random.default_rng(0), STEPS, layers=TENSORS // 2)
        summary.build(job)  # the first one also makes the chart library, once for a workspace
        wall, cpu = [], []
        for _ in range(3):
            began, used = time.perf_counter(), time.process_time()
            summary.build(job)
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
        sizes = {"html": job.report.stat().st_size, "json": job.report_data.stat().st_size}
        records = sum(each.stat().st_size for each in job.records.iterdir())
    result = {"steps": STEPS, "tensors": TENSORS, "seconds": min(wall), "cpu_seconds": min(cpu), "bytes": sizes}
    sys.stdout.write(json.dumps({**result, "records_bytes": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
