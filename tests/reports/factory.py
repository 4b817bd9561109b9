"""Makes whole, realistic job folders from seeded numbers and handwritten digits, without any training."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from houndsight.folders import JobFolder, thumbnail_name
from houndsight.records.writer import RecordWriter
from houndsight.results import ClassScore, Evaluation, Measure, Mistake, ModelCard, ReliabilityBin
from houndsight.spec import ClassifierSpec, Finding, Index, Preprocess, Reject, Split, SplitName, State, Status
from houndsight.workspace import Workspace, write_json

from . import watched

START = 1_760_000_000.0
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DATA = "/data/digits"


def wilson(hits: int, n: int) -> Measure:
    """Share with its 95 % interval after Wilson (1927); written again so that pages do not rest on `metrics`."""
    z, p = 1.959964, hits / n
    middle, half = (p + z * z / (2 * n)), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Measure(value=p, low=(middle - half) / (1 + z * z / n), high=(middle + half) / (1 + z * z / n), n=n)


def make_job(
    workspace: Path,
    name: str = "swift-beagle-4f",
    *,
    classes: Sequence[str] = DIGITS,
    steps: int = 900,
    per_class: int = 18,
    state: State = "COMPLETED",
    findings: bool = True,
    mistakes: int = 24,
    layers: int = 6,
    samples: int = 60,
) -> JobFolder:
    """A job folder with every file that a report reads; `state` decides how far it came."""
    spec = ClassifierSpec(data=DATA, backbone="mobilenet_v2", lr=0.003, epochs=10, augment="crop-flip", hidden=(256,))
    job = Workspace(workspace).create(spec, name)
    rng = np.random.default_rng(7)
    write_index(job, classes, per_class)
    write_plan(job, spec)
    write_records(job, rng, steps, spans=True)
    watched.write_tensors(job, np.random.default_rng(11), steps, layers=layers, every=max(1, steps // 1000))
    watched.write_machine(job, START, samples)
    watched.write_profile(job, steps=steps)
    if findings:
        write_findings(job)
    status: dict[str, Any] = {"state": state, "created": START - 2, "started": START}
    if state == "COMPLETED":
        metrics = {}
        for split in ("valid", "test"):
            evaluation = write_evaluation(job, rng, split, classes, per_class, mistakes)
            metrics[split] = evaluation.metrics
        write_card(job, spec, classes, metrics)
        status |= {"ended": START + 64.25, "exit_code": 0}
    if state == "FAILED":
        message = "The loss became NaN at step 412 (batch of 32 images, learning rate 0.003)."
        repair = "Try --lr 0.0003."
        job.output.mkdir()
        job.failure.write_text(message)
        lines = [f"epoch {n} loss {2 / n:.3f}" for n in range(1, 60)]
        job.log.write_text("\x1b[32mtraining\x1b[0m 1 %\rtraining 100 %\n" + "\n".join(lines) + f"\n{message}\n")
        error = {"kind": "NonFiniteLossError", "message": message, "repair": repair}
        status |= {"ended": START + 30, "exit_code": 1, "reason": message, "error": error}
    write_json(job.status, Status.create(**status))
    return job


def write_index(job: JobFolder, classes: Sequence[str], per_class: int) -> None:
    """An index of uneven classes and a few rejects."""
    splits: dict[SplitName, Split] = {}
    counts: dict[SplitName, int] = {"train": 8 * per_class, "valid": per_class, "test": per_class}
    for split, usual in counts.items():
        labels = [
            i
            for i in range(len(classes))
            for _ in range(usual - (i * 7 % max(1, usual // 2) if split == "train" else 0))
        ]
        paths = tuple(f"{split}/{classes[label]}/{n:05d}.png" for n, label in enumerate(labels))
        splits[split] = Split(paths=paths, labels=tuple(labels), sizes=tuple(900 + n % 37 for n in range(len(paths))))
    rejects = (
        Reject(path="train/three/00017.png", split="train", reason="the file is empty"),
        Reject(path="valid/eight/page.jpg", split="valid", reason="HTML text, not an image"),
    )
    index = Index(
        root=DATA, classes=tuple(classes), splits=splits, rejects=rejects, split_seed=0, fingerprint="5f" * 32
    )
    write_json(job.index, index)


def write_plan(job: JobFolder, spec: ClassifierSpec) -> None:
    """The settings as a worker decides them before it starts."""
    decided = {"recipe": "plain", "weight_decay": 0.01, "threads": 2, "device": "cpu"}
    write_json(job.plan, spec.model_copy(update=decided))


def write_records(job: JobFolder, rng: np.random.Generator, steps: int, *, spans: bool) -> None:
    """Falling losses, rising accuracies, a cosine learning rate, and spans of every kind of work."""
    epoch = max(1, steps // 10)
    clock = START + 1.5
    with RecordWriter(job.records) as records:
        records.add_span("scan", START, 0.6, 0)
        records.add_span("decode", START + 0.6, 0.85, 0)
        for step in range(steps):
            done = (step + 1) / steps
            loss = 0.12 + 2.2 * math.exp(-6 * done) + 0.11 * math.exp(-done) * rng.standard_normal()
            rate = 0.003 * min(1.0, done / 0.05) * (0.5 + 0.5 * math.cos(math.pi * done))
            records.scalar("loss", abs(loss), step=step)
            records.scalar("lr", rate, step=step)
            if spans:
                for kind, share in (("data", 0.013), ("forward", 0.021), ("backward", 0.009), ("optimizer", 0.002)):
                    seconds = share * (1 + 0.2 * abs(rng.standard_normal()))
                    records.add_span(kind, clock, seconds, step)
                    clock += seconds
                clock += 0.001
            if (step + 1) % epoch == 0 or step == steps - 1:
                records.scalar("accuracy", 0.995 - 0.6 * math.exp(-5 * done), step=step)
                valid = 0.2 + 2.0 * math.exp(-5.5 * done) + 0.05 * max(0.0, done - 0.6)
                records.scalar("loss", valid, step=step, mode="valid")
                records.scalar("accuracy", 0.962 - 0.6 * math.exp(-5 * done), step=step, mode="valid")
                if spans:
                    records.add_span("evaluate", clock, 0.9, step)
                    clock += 0.9
                    records.add_span("checkpoint", clock, 0.08, step)
                    clock += 0.08


def write_findings(job: JobFolder) -> None:
    """A finding of the check and some of the debugger."""
    check = Finding(
        source="check",
        rule="duplicate_images",
        severity="warning",
        files=("train/three/00021.png", "valid/three/00007.png"),
        message="2 images of the training split are in the validation split, too.",
        repair="Delete them from one of the two splits.",
        evidence={"pairs": 2},
    )
    write_json(job.check, {"findings": [check.model_dump()], "classes": {}, "splits": {}})
    rules = [
        Finding(source="debugger", rule=rule, status="NoIssuesFound", severity="info", message="Nothing unusual.")
        for rule in ("exploding_tensor", "dead_relu", "overfit")
    ]
    vanishing = Finding(
        source="debugger",
        rule="vanishing_gradient",
        severity="warning",
        step=12,
        message="The gradient of backbone.block1.weight all but vanishes.",
        repair="Put a normalisation layer before backbone.block1.",
        evidence={"layers": ["backbone.block1.weight"]},
    )
    abstained = Finding(
        source="debugger",
        rule="saturated_activation",
        status="NotApplicable",
        severity="info",
        message="Not recorded: inputs of tanh or sigmoid layers.",
    )
    write_json(job.findings, {"findings": [each.model_dump() for each in (vanishing, *rules, abstained)]})
    job.thumbnails.mkdir()
    for file in check.files:
        Image.new("RGB", (48, 48), (200, 120, 40)).save(job.thumbnails / thumbnail_name(file), "JPEG")


def write_evaluation(
    job: JobFolder, rng: np.random.Generator, split: str, classes: Sequence[str], per_class: int, mistakes: int
) -> Evaluation:
    """Scores of a classifier that is right 95 times in 100 and mixes up neighbours; real digits as its mistakes."""
    size = len(classes)
    confusion = np.zeros((size, size), int)
    for label in range(size):
        skill = 0.99 - 0.08 * ((label * 5) % 7) / 6
        for _ in range(per_class):
            other = (label + int(rng.choice([1, 2, -1, 3]))) % size
            confusion[label, label if rng.random() < skill else other] += 1
    right, total = int(np.trace(confusion)), int(confusion.sum())
    scores = []
    for label, name in enumerate(classes):
        hit, called = int(confusion[label, label]), int(confusion[:, label].sum())
        precision = hit / called if called else 0.0
        recall = wilson(hit, per_class)
        f1 = 2 * precision * recall.value / (precision + recall.value) if hit else 0.0
        scores.append(ClassScore(name=name, support=per_class, precision=precision, recall=recall, f1=f1))
    worst = [(a, b) for a in range(size) for b in range(size) if a != b for _ in range(confusion[a, b])][:mistakes]
    top1 = wilson(right, total)
    metrics = {
        "top1": top1,
        "top5": wilson(min(total, right + (total - right) * 9 // 10), total),
        "balanced_accuracy": top1,
        "macro_f1": Measure(value=sum(s.f1 for s in scores) / size, low=top1.low, high=top1.high, n=total),
        "loss": Measure(value=0.21, low=0.17, high=0.26, n=total),
        "ece": Measure(value=0.012, low=0.008, high=0.023, n=total),
        "ece_uncalibrated": Measure(value=0.038, low=0.027, high=0.052, n=total),
    }
    evaluation = Evaluation(
        split=split,
        classes=tuple(classes),
        metrics=metrics,
        per_class=tuple(scores),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        reliability=_bins(0.0),
        reliability_uncalibrated=_bins(0.08),
        temperature=1.31,
        mistakes=_mistakes(job, split, classes, worst),
    )
    write_json(job.evaluation / f"{split}.json", evaluation)
    return evaluation


def _bins(over: float) -> tuple[ReliabilityBin, ...]:
    bins = []
    for n in range(3, 10):
        sure = n / 10 + 0.06
        accuracy = sure - over * (1.1 - n / 10) * 2 + 0.015 * (-1) ** n
        bins.append(ReliabilityBin(low=n / 10, high=(n + 1) / 10, confidence=sure, accuracy=accuracy, count=4 + n**2))
    return tuple(bins)


def _mistakes(
    job: JobFolder, split: str, classes: Sequence[str], worst: Sequence[tuple[int, int]]
) -> tuple[Mistake, ...]:
    digits = load_digits()
    folder = job.evaluation / "thumbnails"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for n, (label, predicted) in enumerate(worst):
        pixels = digits.images[digits.target == label % 10][n]
        grey = Image.fromarray((255 - pixels * 15.9).astype(np.uint8)).resize((160, 160), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        grey.convert("RGB").save(file, "JPEG", quality=85)
        thumbnail = f"thumbnails/{split}-{n}.jpg"
        (job.evaluation / thumbnail).write_bytes(file.getvalue())
        heat = f"thumbnails/{split}-{n}-heat.jpg"
        (job.evaluation / heat).write_bytes(file.getvalue())
        path = f"{split}/{classes[label]}/{n:05d}.png"
        probability = 0.998 - 0.021 * n
        found.append(
            Mistake(
                path=path,
                label=classes[label],
                predicted=classes[predicted],
                probability=max(0.2, probability),
                thumbnail=thumbnail,
                heat=heat if n % 2 == 0 else "",
            )
        )
    return tuple(found)


def write_card(
    job: JobFolder, spec: ClassifierSpec, classes: Sequence[str], metrics: dict[str, dict[str, Measure]]
) -> None:
    """The artifact's card."""
    card = ModelCard(
        classes=tuple(classes),
        preprocess=Preprocess(),
        backbone=spec.backbone,
        hidden=spec.hidden,
        temperature=1.31,
        weights_source="torchvision MobileNet_V2_Weights.IMAGENET1K_V1",
        weights_licence="BSD-3-Clause",
        metrics=metrics,
        data_fingerprint="5f" * 32,
        spec=json.loads(spec.model_dump_json()),
        versions={"houndsight": "0.1.0", "python": "3.11.7", "torch": "2.15.0", "torchvision": "0.30.0"},
        created="2025-10-09T08:53:20Z",
    )
    job.model.mkdir()
    write_json(job.model / "model.json", card)
