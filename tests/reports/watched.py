"""Gives a made-up job what debugger and profiler would have recorded: statistics of layers, the machine, a profile."""

import json
from typing import Any

import numpy as np

from houndsight.folders import JobFolder
from houndsight.records.facts import add_facts
from houndsight.records.machine import MACHINE
from houndsight.records.tensors import STATISTICS, TensorWriter
from houndsight.spec import Finding
from houndsight.workspace import write_json

COLUMN = {name: at for at, name in enumerate(STATISTICS)}


def write_tensors(job: JobFolder, rng: np.random.Generator, steps: int, *, layers: int, every: int = 1) -> None:
    """Weights, gradients, updates of `layers` layers with a weight and a bias each, and inputs of their activations."""
    parameters = [f"backbone.block{layer}.{kind}" for layer in range(layers) for kind in ("weight", "bias")]
    names = [f"{sort}/{name}" for sort in ("weight", "gradient", "update") for name in parameters]
    names += [f"input/backbone.block{layer}.relu" for layer in range(layers)]
    add_facts(
        job.records,
        parameters=[
            {"name": name, "shape": [8], "kind": "bias" if name.endswith("bias") else "weight"} for name in parameters
        ],
    )
    count = len(parameters)
    writer = TensorWriter(job.records)
    for step in range(0, steps, every):
        values = np.full((len(names), len(STATISTICS)), np.nan, np.float32)
        sizes = np.linspace(1.0, 3.0, count)
        noise = 1 + 0.1 * rng.standard_normal(count)
        fall = 0.2 + 0.8 * np.exp(-4 * step / steps)
        values[:count, COLUMN["l2"]] = sizes
        values[count : 2 * count, COLUMN["l2"]] = fall * noise * np.geomspace(0.5, 0.01, count)
        values[count : 2 * count, COLUMN["zeros"]] = np.linspace(0, 0.4, count)
        values[2 * count : 3 * count, COLUMN["l2"]] = 1e-3 * sizes * fall * noise
        values[3 * count :, COLUMN["dead"]] = np.linspace(0, 0.3, layers)
        writer.add(step, "train", names, values)
    writer.close()


def write_machine(job: JobFolder, began: float, samples: int) -> None:
    """What the sampler writes: counters of two cores, a growing memory, disk and network."""
    facts = {
        "format": 1,
        "t": began,
        "cores": 2,
        "usable": 2.0,
        "memory": 8_000_000_000,
        "model": "A processor",
        "host": "here",
        "gpus": [],
        "interval": 0.5,
    }
    lines: list[dict[str, Any]] = [facts]
    for at in range(samples):
        busy = 0.25 * at + 0.05 * (at % 3)
        line = {
            "t": began + 0.5 * at,
            "cpu": [[busy, 0.0, 0.0], [0.5 * busy, 0.01 * at, 0.0]],
            "mem": [6_000_000_000 - 10_000_000 * at],
            "page": [0, 0, 0],
            "disk": [1_000_000 * at, 2_000_000 * (at // 2)],
            "net": [1000 * at, 500 * at],
            "tree": {"cpu": busy, "rss": 900_000_000 + 5_000_000 * at, "kids": {}, "main": [7, busy, 0.01 * at]},
            "own": 0.001 * at,
        }
        lines.append(line)
    (job.records / MACHINE).write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_profile(job: JobFolder, *, steps: int) -> None:
    """The profiler's verdict, findings, outliers and operators, with SageMaker's report of one rule beside them."""
    verdict = {
        "bound": "data",
        "cause": "data_wait",
        "message": "The loop waits for its data 28% of the time.",
        "share": 0.28,
        "gain": 1.39,
        "change": "Decode ahead: `--workers 2`.",
        "expected": 1.35,
        "settings": {"workers": 2},
        "evidence": {"waited_share": 0.28},
        "assumption": "two cores are free.",
        "alternatives": [],
    }
    findings = [
        Finding(
            source="profiler",
            rule="data_wait",
            severity="warning",
            message=str(verdict["message"]),
            repair=str(verdict["change"]),
            evidence={"gain": 1.39, "expected": 1.35},
        ),
        Finding(
            source="profiler",
            rule="low_gpu_utilization",
            status="NotApplicable",
            severity="info",
            message="There is no GPU on this machine.",
            evidence={"rule": "LowGPUUtilization"},
        ),
    ]
    document = {
        "format": 1,
        "verdict": verdict,
        "findings": [each.model_dump(mode="json") for each in findings],
        "steps": {
            "count": steps,
            "seconds": {"min": 0.04, "p50": 0.046, "p95": 0.055, "p99": 0.06, "max": 0.2},
            "images_per_second": 650.0,
        },
        "outliers": [
            {"step": 7, "start": 1.0, "seconds": 0.2, "usual": 0.046, "excess": 0.15, "part": "data", "cause": "gc"}
        ],
        "operators": [
            {"name": "aten::convolution", "calls": 30, "seconds": 0.3, "device_seconds": 0.0},
            {"name": "aten::addmm", "calls": 30, "seconds": 0.1, "device_seconds": 0.0},
        ],
        "flops": {"per_step": 2.0e9, "per_second": 4.0e10, "machine_per_second": 8.0e10, "share": 0.5},
        "energy": None,
        "overhead": {"sampler_share_of_a_core": 0.003},
    }
    write_json(job.profile, document)
    rules = job.sagemaker_page.parent / "profiler-reports"
    rules.mkdir(parents=True)
    stats = {"mean": 0.05, "max": 0.2, "p99": 0.06, "p95": 0.055, "p50": 0.046, "min": 0.04}
    details = {"step_details": {"algo-1-7": {"step_stats": stats, "number_of_outliers": 1, "probs": [0.5, 0.0, 0.5]}}}
    report = {
        "RuleTriggered": 1,
        "Violations": 1,
        "Details": details,
        "Datapoints": steps,
        "RuleParameters": "stddev:3",
    }
    write_json(rules / "StepOutlier.json", report)
