"""Runs scripts through Amazon's own toolkits; started with their Python, not a test itself.

python theirs.py CASES.json     -> one JSON document on standard output
"""

import base64
import json
import os
import sys
import warnings
from importlib import import_module
from typing import Any


class Processor:
    """One request as TorchServe hands it over."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers
        self.status = 200
        self.response: dict[str, str] = {}

    def get_request_properties(self) -> dict[str, str]:
        return self.headers

    def get_request_property(self, key: str) -> str | None:
        return {name.lower(): value for name, value in self.headers.items()}.get(key.lower())


class Context:
    """What of TorchServe's context the toolkit uses."""

    model_name = "model"

    def __init__(self, model_dir: str, headers: dict[str, str]) -> None:
        self.system_properties = {"model_dir": model_dir, "gpu_id": None}
        self.request_processor = [Processor(headers)]

    def get_request_header(self, idx: int, key: str) -> str | None:
        return self.request_processor[idx].get_request_property(key)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.request_processor[idx].status = code

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.request_processor[idx].response["content-type"] = value


def run(model: str, requests: list[dict[str, Any]]) -> dict[str, Any]:
    """Load a model folder and ask it."""
    handler: Any = import_module("sagemaker_pytorch_serving_container.default_pytorch_inference_handler")
    transformer_module: Any = import_module("sagemaker_inference.transformer")

    sys.path.insert(0, f"{model}/code")
    os.chdir(model)  # their default model_fn looks for the one .pth file there, whatever model_dir says
    transformer = transformer_module.Transformer(handler.DefaultPytorchInferenceHandler())
    try:
        transformer.validate_and_initialize(model_dir=model, context=Context(model, {}))
    except Exception as error:  # noqa: BLE001  whatever a script raises is what is compared
        return {"problem": str(error) or type(error).__name__, "answers": []}
    finally:
        sys.path.pop(0)
    answers = []
    for asked in requests:
        headers = {name: value for name, value in asked["headers"].items() if value is not None}
        context = Context(model, headers)
        transformer._context = context  # the service sets it once; each request of TorchServe brings a fresh one
        (body,) = transformer.transform([{"body": bytearray(base64.b64decode(asked["body"]))}], context)
        found = context.request_processor[0]
        answers.append({"status": found.status, "type": found.response.get("content-type"), "body": shown(body)})
    return {"problem": "", "answers": answers}


def shown(body: Any) -> str:
    """The body's bytes as TorchServe would send them, in base64; empty for what it cannot send."""
    if not isinstance(body, str | bytes | bytearray):
        try:
            body = json.dumps(body, indent=2)
        except TypeError:
            return ""
    return base64.b64encode(body.encode() if isinstance(body, str) else bytes(body)).decode()


def main() -> None:
    warnings.simplefilter("ignore")
    out, sys.stdout = sys.stdout, sys.stderr
    with open(sys.argv[1]) as file:
        cases = json.load(file)
    found = {}
    for name, case in cases.items():
        found[name] = run(case["model"], case["requests"])
        for module in ("inference", "helper"):
            sys.modules.pop(module, None)
    out.write(json.dumps(found))


if __name__ == "__main__":
    main()
