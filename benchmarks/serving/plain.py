"""The references in our own words: bare decoding and computing in one thread, and the shortest uvicorn app around it.

python -m benchmarks.serving.plain limit MODEL FOLDER BATCH IMAGES      prints CPU ms an image, no HTTP
python -m benchmarks.serving.plain app MODEL PORT                       one process, one thread pool
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from houndsight.serving.predictor import Predictor


def limit(model: str, folder: str, batch: int, count: int) -> None:
    """Bytes to JSON in one thread."""
    import torch

    torch.set_num_threads(1)
    predictor = Predictor.open(model, threads=1)
    files = [path.read_bytes() for path in sorted(Path(folder).iterdir())]

    def answer(bodies: list[bytes]) -> None:
        for row in predictor.predict(np.stack([predictor.decode(body) for body in bodies])):
            json.dumps({"predictions": predictor.encode(row)})

    answer(files[:batch] * 2)
    start = time.process_time()
    for at in range(0, count, batch):
        answer([files[(at + place) % len(files)] for place in range(batch)])
    print(json.dumps({"cpu_ms": (time.process_time() - start) * 1e3 / (-(-count // batch) * batch)}))


def app(model: str, port: int) -> None:
    """As one writes it in five minutes."""
    import torch
    import uvicorn

    torch.set_num_threads(1)
    predictor = Predictor.open(model, threads=2)

    def answer(body: bytes) -> dict[str, object]:
        return {"predictions": predictor.encode(predictor.predict(predictor.decode(body)[None])[0])}

    async def invocations(request: Request) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(answer, await request.body()))

    starlette = Starlette(routes=[Route("/invocations", invocations, methods=["POST"])])
    uvicorn.run(starlette, port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    if sys.argv[1] == "limit":
        limit(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        app(sys.argv[2], int(sys.argv[3]))
