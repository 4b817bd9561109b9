"""Scripts in the manner of public SageMaker projects, what each is asked, and the models that they load."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

JSON, CSV, NPY, JPEG, ANY = "application/json", "text/csv", "application/x-npy", "image/jpeg", "*/*"


@dataclass(frozen=True)
class Asked:
    """One request."""

    content_type: str | None
    body: bytes
    accept: str | None = None


@dataclass(frozen=True)
class Case:
    """A script, what lies beside it, and requests for it."""

    code: str
    asked: tuple[Asked, ...]
    model: str = "state"
    files: dict[str, str] = field(default_factory=dict)
    loads: bool = True


def picture(size: tuple[int, int] = (6, 4), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (200, 100, 50)).save(out, kind)
    return out.getvalue()


def npy(values: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(values, np.float32))
    return out.getvalue()


ROWS = json.dumps([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]]).encode()
ADDRESS = json.dumps({"url": "data:image/png;base64," + base64.b64encode(picture()).decode()}).encode()
NOT_TAKEN = Asked("text/plain", b"hello")

NET = """
import json, logging, os, sys, io
import torch
import torch.nn as nn
from PIL import Image

def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

def model_fn(model_dir):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = net()
    with open(os.path.join(model_dir, "model.pth"), "rb") as f:
        model.load_state_dict(torch.load(f, map_location=device))
    return model.to(device).eval()

def pixels(image):
    image = image.convert("RGB").resize((1, 1))
    return torch.tensor([list(image.getpixel((0, 0)))], dtype=torch.float32) / 255
"""

CASES: dict[str, Case] = {
    "only model_fn": Case(
        NET,
        (
            Asked(JSON, ROWS),
            Asked(JSON, ROWS, ANY),
            Asked(JSON, ROWS, CSV),
            Asked(JSON, ROWS, NPY),
            Asked(JSON, ROWS, "application/json, text/csv"),
            Asked(JSON, ROWS, "text/html"),
            Asked(CSV, b"1,2,3\n4,5,6\n", JSON),
            Asked(NPY, npy([[1, 2, 3]]), NPY),
            Asked(NPY, b"no array"),
            Asked(JSON, b"{broken"),
            Asked(JSON, b"\xff\xfe"),
            Asked("application/json; charset=utf-8", ROWS),
            Asked(JPEG, picture(kind="JPEG")),
            Asked(None, ROWS),
            Asked(JSON, b"[[1, 2]]"),
            NOT_TAKEN,
        ),
    ),
    "address in JSON": Case(
        NET
        + """
import urllib.request

def input_fn(request_body, content_type="image/jpeg"):
    if content_type in ("image/jpeg", "image/png"):
        return pixels(Image.open(io.BytesIO(request_body)))
    if content_type == "application/json":
        request = json.loads(request_body)
        return pixels(Image.open(io.BytesIO(urllib.request.urlopen(request["url"]).read())))
    raise Exception("Requested unsupported ContentType in content_type: {}".format(content_type))

def predict_fn(input_object, model):
    with torch.no_grad():
        prediction = model(input_object)
    return prediction
""",
        (Asked(JPEG, picture(kind="JPEG")), Asked(JSON, ADDRESS), Asked(JSON, b'{"link": 1}'), NOT_TAKEN),
    ),
    "other names and a logger": Case(
        NET
        + """
logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.StreamHandler(sys.stdout))

def input_fn(request_body, request_content_type):
    logger.info(f"Incoming content type: {request_content_type}")
    assert request_content_type in ("image/jpeg", "application/x-image")
    return pixels(Image.open(io.BytesIO(request_body)))

def output_fn(prediction_output, response_content_type):
    return json.dumps({"predictions": prediction_output.cpu().detach().numpy().tolist()})
""",
        (Asked("application/x-image", picture()), Asked(JPEG, picture(), CSV), NOT_TAKEN),
    ),
    "answer with its type": Case(
        NET
        + """
def output_fn(prediction, accept="application/json"):
    if accept == "application/json":
        return json.dumps(prediction.tolist()), accept
    if accept == "text/csv":
        return ";".join(str(round(x, 3)) for x in prediction.flatten().tolist()), "text/plain"
    raise ValueError("accept " + accept)
""",
        (Asked(JSON, ROWS), Asked(JSON, ROWS, CSV), Asked(JSON, ROWS, "image/png")),
    ),
    "transform_fn": Case(
        NET
        + """
def transform_fn(model, request_body, content_type, accept):
    data = torch.tensor(json.loads(request_body))
    with torch.no_grad():
        return json.dumps(torch.softmax(model(data), dim=1).tolist()), accept
""",
        (Asked(JSON, ROWS), Asked(JSON, ROWS, "application/x-mine"), Asked(JSON, b"[]")),
    ),
    "with context": Case(
        NET.replace("def model_fn(model_dir):", "def model_fn(model_dir, context):")
        + """
def input_fn(data, content_type, context):
    asked = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    return torch.tensor(json.loads(data)), asked

def predict_fn(data, model, context):
    return model(data[0]), data[1], context.system_properties.get("model_dir") is not None

def output_fn(prediction, accept, context):
    return json.dumps([prediction[0].tolist(), prediction[1], prediction[2]])
""",
        (Asked(JSON, ROWS),),
    ),
    "transform_fn with context": Case(
        NET
        + """
def transform_fn(model, data, content_type, accept, context):
    context.set_response_status(code=201, phrase="Made")
    return b"made", "text/plain"
""",
        (Asked(JSON, ROWS),),
    ),
    "wrong number of parameters": Case(NET + "\ndef predict_fn(data):\n    return data\n", (Asked(JSON, ROWS),)),
    "TorchScript and no script": Case("", (Asked(JSON, ROWS), Asked(NPY, npy([[1, 2, 3]]), NPY)), model="jit"),
    "TorchScript under another name": Case(
        "def input_fn(body, content_type):\n    import torch\n    return torch.ones(1, 3)\n",
        (Asked("anything", b"\x00"),),
        model="jit.pth",
    ),
    "weights and no model_fn": Case("import os\n", (Asked(JSON, ROWS),), loads=False),
    "two models and no model_fn": Case("import os\n", (Asked(JSON, ROWS),), model="two", loads=False),
    "the whole module": Case(
        NET.replace("model = net()", "model = torch.load(os.path.join(model_dir, 'whole.pth'), weights_only=False)")
        .replace('with open(os.path.join(model_dir, "model.pth"), "rb") as f:', "if False:")
        .replace("f, map_location", "None, map_location"),
        (Asked(JSON, ROWS),),
        model="whole",
    ),
    "lists": Case(
        NET + "\ndef predict_fn(data, model):\n    return model(data).argmax(1).tolist()\n",
        (Asked(JSON, ROWS), Asked(JSON, ROWS, CSV)),
    ),
    "a name": Case(
        NET + "\ndef predict_fn(data, model):\n    return ['beagle', 'poodle'][int(model(data)[0].argmax())]\n",
        (Asked(JSON, ROWS), Asked(JSON, ROWS, CSV)),
    ),
    "a dictionary of arrays": Case(
        NET
        + """
def predict_fn(data, model):
    out = model(data)
    return {"scores": out.detach(), "best": out.argmax(1).numpy(), "n": len(out)}
""",
        (Asked(JSON, ROWS),),
    ),
    "an object as the answer": Case(
        NET + "\ndef output_fn(prediction, accept):\n    return {'n': len(prediction), 'é': None}\n",
        (Asked(JSON, ROWS),),
    ),
    "nothing that can be sent": Case(
        NET + "\ndef output_fn(prediction, accept):\n    return {1, 2, 3}\n", (Asked(JSON, ROWS),)
    ),
    "raises": Case(
        NET + "\ndef predict_fn(data, model):\n    raise RuntimeError('no  luck\\ntoday')\n", (Asked(JSON, ROWS),)
    ),
    "chooses its error": Case(
        NET
        + """
from sagemaker_inference import content_types, decoder, encoder
from sagemaker_inference.errors import BaseInferenceToolkitError, GenericInferenceToolkitError

def input_fn(data, content_type):
    if content_type == content_types.CSV:
        raise BaseInferenceToolkitError(415, "only JSON", "Unsupported")
    rows = decoder.decode(data, content_type)
    if rows.shape[1] != 3:
        raise GenericInferenceToolkitError(400, "three numbers a row")
    return torch.FloatTensor(rows)

def output_fn(prediction, accept):
    return encoder.encode(prediction.detach().numpy(), accept)
""",
        (Asked(JSON, ROWS), Asked(CSV, b"1,2,3"), Asked(JSON, b"[[1]]"), Asked(JSON, ROWS, NPY)),
    ),
    "a module of its own": Case(
        "from helper import model_fn, scale\n\ndef predict_fn(data, model):\n    return model(data) * scale\n",
        (Asked(JSON, ROWS),),
        files={"helper.py": NET + "\nscale = 2\n"},
    ),
    "the training script": Case(
        NET
        + """
import argparse

def main(args):
    raise SystemExit("it was to train")

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    main(parser.parse_args())
""",
        (Asked(JSON, ROWS),),
    ),
    "takes bytes apart": Case(
        NET
        + """
def input_fn(body, content_type):
    return torch.tensor([[float(len(body)), float(body[0]), float(type(body) is bytearray)]])
""",
        (Asked("application/octet-stream", b"\x07abc"), Asked("application/x-npz", b"\x01")),
    ),
    "both kinds": Case(
        NET + "\ndef transform_fn(m, d, c, a):\n    return d\ndef input_fn(d, c):\n    return d\n",
        (Asked(JSON, ROWS),),
        loads=False,
    ),
    "raises while it is imported": Case("import no_such_module_at_all\n", (Asked(JSON, ROWS),), loads=False),
    "raises while it loads": Case(
        "def model_fn(model_dir):\n    return open(model_dir + '/absent.pth')\n", (Asked(JSON, ROWS),), loads=False
    ),
}


def make(case: Case, base: Path) -> Path:
    """The model folder of a case, as Amazon's container would find it."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    model = base / "model"
    (model / "code").mkdir(parents=True)
    savers: dict[str, Callable[[], object]] = {
        "state": lambda: torch.save(net.state_dict(), model / "model.pth"),
        "whole": lambda: torch.save(net, model / "whole.pth"),
        "jit": lambda: _traced(net, model / "model.pt"),
        "jit.pth": lambda: _traced(net, model / "dogs.pth"),
        "two": lambda: _twice(net.state_dict(), model),
    }
    savers[case.model]()
    if case.code:
        (model / "code" / "inference.py").write_text(case.code)
    for name, text in case.files.items():
        (model / "code" / name).write_text(text)
    return model


def _twice(state: object, model: Path) -> None:
    import torch

    for name in "ab":
        torch.save(state, model / f"{name}.pth")


def _traced(net: object, path: Path) -> None:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, torch.zeros(1, 3)).save(str(path))  # type: ignore[no-untyped-call]
