"""An endpoint's start, its memory, and 10,000 requests while its model is replaced again and again: none may fail.

python -m benchmarks.endpoint [REQUESTS]
"""

import http.client
import io
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

import houndsight
from houndsight.verbs.endpoints import Deployment

CALLERS = 8
REACH = {"cold": 10.0, "instance": 2.0, "memory": 1.2e9}


def main() -> None:
    """Measure on ResNet-18 with 133 classes from random weights; pictures of 500 x 375."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        models = [make(place / str(seed), seed) for seed in (0, 1)]
        picture = jpeg()
        for name in ("cold", "model prepared before"):
            began = time.perf_counter()
            endpoint = houndsight.deploy(models[0], workspace=place / "runs")
            endpoint.predict(picture)
            reach = f", reach {REACH['cold']:.0f} s" if name == "cold" else ""
            print(f"  deploy to first answer, {name}: {time.perf_counter() - began:.1f} s{reach}", flush=True)
            if name == "cold":
                endpoint.delete()
        try:
            seconds = []
            for count in (2, 3):
                began = time.perf_counter()
                endpoint.update(instances=count)
                seconds.append(time.perf_counter() - began)
            print(f"  each further instance: {median(seconds):.1f} s, reach {REACH['instance']:.0f} s")
            print(f"  memory of 3 instances (PSS): {memory(endpoint) / 1e9:.2f} GB, reach {REACH['memory'] / 1e9} GB")
            updates, statuses, failures = under_load(endpoint, models, picture, requests)
            print(f"  {updates} updates under {CALLERS} callers: {sum(statuses.values())} requests, {dict(statuses)}, "
                  f"{len(failures)} failed{': ' + '; '.join(sorted(set(failures))) if failures else ''}")  # fmt: skip
        finally:
            endpoint.delete()


def make(folder: Path, seed: int) -> Path:
    """An artifact."""
    import torch

    from houndsight.models import artifact, network
    from houndsight.results import ModelCard
    from houndsight.spec import ClassifierSpec

    torch.manual_seed(seed)
    net = network.build(ClassifierSpec(data="none", weights="none", freeze="none"), 133).network.eval()
    side = net.preprocess.image_size
    samples = np.random.default_rng(seed).integers(0, 256, (16, side, side, 3), dtype=np.uint8)
    card = ModelCard(classes=tuple(map(str, range(133))), preprocess=net.preprocess, backbone=net.name)
    artifact.save(folder, net, card, samples)
    return folder


def jpeg() -> bytes:
    """A picture of smooth noise, about as large a file as a photo."""
    noise = np.random.default_rng(0).integers(0, 256, (94, 125, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


def memory(endpoint: Deployment) -> int:
    """Proportional set size of all processes of the endpoint, in bytes."""
    supervisor = psutil.Process(endpoint.status.pid)
    everybody = [supervisor, *supervisor.children(recursive=True)]
    return sum(int(each.memory_full_info().pss) for each in everybody)


def under_load(
    endpoint: Deployment, models: list[Path], picture: bytes, requests: int
) -> tuple[int, Counter[int], list[str]]:
    """Replace the model until so many requests were answered; how often, with what status, and what failed."""
    statuses: Counter[int] = Counter()
    failures: list[str] = []
    over, lock = threading.Event(), threading.Lock()
    address = urlsplit(endpoint.url)

    def call() -> None:
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        while not over.is_set():
            try:
                connection.request("POST", "/invocations", picture, {"content-type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                with lock:
                    failures.append(f"{type(error).__name__}: {error}")
            else:
                with lock:
                    statuses[answer.status] += 1
        connection.close()

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    updates = 0
    try:
        while sum(statuses.values()) < requests:
            updates += 1
            endpoint.update(models[updates % 2], bake=1.0)
    finally:
        over.set()
        for caller in callers:
            caller.join()
    return updates, statuses, failures


if __name__ == "__main__":
    main()
