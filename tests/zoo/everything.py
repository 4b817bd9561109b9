"""Every mistake with its twins and every healthy run, in several processes; what `make zoo` runs."""

import json
import logging
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from .faults import FAULTS
from .healthy import healthy
from .page import RESULTS, page
from .runs import ARCHITECTURES, Run
from .watched import RANK, watched

SEEDS = (0, 1, 2)


def base(architecture: str, seed: int) -> Run:
    """The healthy run that a mistake is planted in: another optimizer for every other seed."""
    sgd = seed % 2 == 0
    rate = (0.05 if architecture == "residual" else 0.03) if sgd else 2e-3
    return Run(architecture=architecture, seed=seed, optimizer="sgd" if sgd else "adamw", lr=rate)


def one(task: tuple[str, str, int]) -> dict[str, Any]:
    """Run a fault, its twin or a healthy run; what fired at which severity, as plain data."""
    kind, name, number = task
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    if kind == "healthy":
        run = healthy()[number]
    else:
        fault, architecture = next(each for each in FAULTS if each.name == name), kind.partition(" ")[2]
        run = base(architecture, number)
        run = fault.plant(run) if kind.startswith("fault") else fault.twin(run) if fault.twin else run
    outcome = watched(run)
    fired = {
        each.rule: max((each.severity, fired), key=RANK.index)
        for each in outcome.findings
        if each.status == "IssuesFound"
        for fired in [each.severity]
    }
    looked = [each.rule for each in outcome.findings if each.status != "NotApplicable"]
    return {
        "kind": kind, "name": name, "number": number, "fired": fired, "looked": sorted(set(looked)),
        "accuracy": round(outcome.accuracy, 3), "steps": outcome.steps,
    }  # fmt: skip


def tasks() -> list[tuple[str, str, int]]:
    """Everything that is run: (what, which fault, seed or number); a twin that many mistakes share runs once."""
    found = [("healthy", "", number) for number in range(len(healthy()))]
    for fault in FAULTS:
        for architecture in ARCHITECTURES:
            for seed in SEEDS:
                found.append((f"fault {architecture}", fault.name, seed))  # noqa: PERF401 - reads as it runs
            if fault.twin_name == fault.name:
                found.append((f"twin {architecture}", fault.name, 0))
    return found


def main() -> None:
    """Run everything in as many processes as asked, two by default, and write results and page."""
    begun, every = time.monotonic(), tasks()
    results = []
    with ProcessPoolExecutor(int(sys.argv[1]) if len(sys.argv) > 1 else 2, get_context("spawn")) as pool:
        for number, result in enumerate(pool.map(one, every), start=1):
            results.append(result)
            print(f"{number}/{len(every)} {time.monotonic() - begun:.0f} s", result["kind"], result["name"],
                  result["number"], result["accuracy"], result["fired"], flush=True)  # fmt: skip
    RESULTS.write_text(json.dumps(results, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    Path("docs/rules.md").write_text(page(results), encoding="utf-8")
