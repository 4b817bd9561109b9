"""The process in which a SageMaker script's handlers run, one request at a time; started and ended by its instance.

    python -P -m houndsight.serving.handlers_worker --socket FD --model DIR --program inference.py

The script's code runs in the main thread, in the model's folder, with its `code/` first on the import path. Frames on
the socket are two lengths, a JSON head and a body; the end of the socket is the end of the process.
"""

import argparse
import ctypes
import faulthandler
import importlib
import importlib.util
import json
import logging
import os
import queue
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

from houndsight.serving import handlers_toolkit as toolkit

log = logging.getLogger("houndsight")

FRAME = struct.Struct("!II")
LINGER_SECONDS = 5.0
"""What a handler may still take once nobody waits for it."""
_PR_SET_PDEATHSIG = 1
_NAMES = ("transform_fn", "input_fn", "predict_fn", "output_fn")


class Transformer:
    """A script's functions, with the container's defaults for those it lacks, and the model that they share."""

    def __init__(self, model_dir: str, program: str) -> None:
        self.model_dir, self.program, self.code = model_dir, program, Path(model_dir) / "code"
        self.context = toolkit.Context(model_dir)
        self.functions: dict[str, Callable[..., Any]] = {}
        self.own: list[str] = []
        """Functions that the script defines."""
        self.model: Any = None

    def load(self) -> None:
        """Import the script and load the model; raises whatever the script raises."""
        module = self._import()
        defaults = toolkit.Defaults()
        found = {name: getattr(module, name, None) for name in ("model_fn", *_NAMES, "pre_model_fn", "model_warmup_fn")}
        self.own = [name for name, function in found.items() if function is not None]
        if found["transform_fn"] and (found["input_fn"] or found["predict_fn"] or found["output_fn"]):
            raise ValueError(
                "Cannot use transform_fn implementation in conjunction with "
                "input_fn, predict_fn, and/or output_fn implementation"
            )
        self.functions = {
            "model_fn": found["model_fn"] or defaults.default_model_fn,
            "transform_fn": found["transform_fn"] or self._transform,
            "input_fn": found["input_fn"] or defaults.default_input_fn,
            "predict_fn": found["predict_fn"] or defaults.default_predict_fn,
            "output_fn": found["output_fn"] or defaults.default_output_fn,
        }
        if found["pre_model_fn"] is not None:
            self._call(found["pre_model_fn"], self.model_dir)
        self.model = self._call(self.functions["model_fn"], self.model_dir)
        if found["model_warmup_fn"] is not None:
            self._call(found["model_warmup_fn"], self.model_dir, self.model)

    def _import(self) -> Any:
        """The script as a module; None where the model brings none, so that the defaults serve."""
        name = self.program.removesuffix(".py")
        return importlib.import_module(name) if importlib.util.find_spec(name) is not None else None

    def answer(self, head: dict[str, Any], body: bytearray) -> tuple[dict[str, Any], bytes]:
        """One request through the handlers: the head and body of the answer. Raises whatever the script raises."""
        processor = toolkit.RequestProcessor(head["headers"])
        self.context.request_processor = [processor]
        self.context.request_ids = {0: str(head["number"])}
        content_type, accept = head["content_type"], head["accept"]
        if not accept or accept == toolkit.ANY:
            accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", toolkit.JSON)
        data: Any = body.decode("utf-8") if content_type in toolkit.UTF8_TYPES else body
        result = self._call(self.functions["transform_fn"], self.model, data, content_type, accept)
        if isinstance(result, tuple):
            result, accept = result[0], result[1]
        self.context.set_response_content_type(0, accept)
        headers = {name: str(value) for name, value in processor.get_response_headers().items()}
        return {"status": processor.get_response_status_code(), "headers": headers}, _bytes(result)

    def _transform(self, model: Any, data: Any, content_type: str | None, accept: str) -> Any:
        functions = self.functions
        prepared = self._call(functions["input_fn"], data, content_type)
        prediction = self._call(functions["predict_fn"], prepared, model)
        return self._call(functions["output_fn"], prediction, accept)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A handler with one parameter more is given the context; counted, never looked up by name, as there."""
        count = len(signature(function).parameters)
        if count == len(arguments):
            return function(*arguments)
        if count == len(arguments) + 1:
            return function(*arguments, self.context)
        name = getattr(function, "__name__", "A handler")
        raise TypeError(f"{name} takes {count} arguments but {len(arguments)} were given.")


class UnsupportedOutputError(Exception):
    """What the script answered is neither text nor bytes nor JSON."""


def _bytes(result: Any) -> bytes:
    """The answer's body: text and bytes as they are, anything else as JSON; tensors as lists, never pickled."""
    if isinstance(result, str):
        return result.encode()
    if isinstance(result, bytes | bytearray):
        return bytes(result)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(result, torch.Tensor):
        result = result.detach().cpu().tolist()
    try:
        return json.dumps(result, indent=2).encode()
    except (TypeError, ValueError) as error:
        raise UnsupportedOutputError(f"Unsupported model output data type: {type(result).__name__}.") from error


# ------------------------------------------------------------------------------------------- failures


def failure(error: BaseException, code: Path) -> dict[str, Any]:
    """One sentence about what the script raised and where, and the status that it asks for."""
    if any(each.__name__ == "BaseInferenceToolkitError" for each in type(error).__mro__):
        status, message = getattr(error, "status_code", 500), getattr(error, "message", str(error))
        return {"status": int(status), "error": _line(str(message))}
    if isinstance(error, UnsupportedOutputError):
        return {"status": 503, "error": str(error)}
    if isinstance(error, SyntaxError) and error.filename:
        return {"status": 500, "error": f"SyntaxError: {error.msg} ({Path(error.filename).name}, line {error.lineno})"}
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(code)]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name})" if own else ""
    text = _line(str(error))
    return {"status": 500, "error": f"{type(error).__name__}{': ' + text if text else ''}{where}"}


def _line(text: str) -> str:
    return " ".join(text.split())[:1000]


# --------------------------------------------------------------------------------------------- process


def main() -> None:
    """Load the model, say how that went, and answer until the socket ends."""
    parser = argparse.ArgumentParser(description="Run the handlers of a SageMaker script.")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--program", required=True)
    asked = parser.parse_args()
    line = socket.socket(fileno=asked.socket)
    line.set_inheritable(False)
    _die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests: queue.SimpleQueue[tuple[dict[str, Any], bytearray] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(line, requests), name="requests", daemon=True).start()
    model = asked.model.absolute()
    os.chdir(model)
    sys.path.insert(0, str(model / "code"))
    sys.argv = [asked.program]
    toolkit.provide()
    transformer = Transformer(str(model), asked.program)
    _send(line, {"problem": loaded(transformer), "own": transformer.own}, b"")
    while (request := requests.get()) is not None:
        head, body = answered(transformer, *request)
        with suppress(OSError):
            _send(line, head, body)


def loaded(transformer: Transformer) -> str:
    """Load the script and its model; why that failed, or nothing. The traceback goes to the log."""
    try:
        transformer.load()
    except BaseException as error:  # sys.exit() in a script must not look like a sound end
        log.exception("The model cannot be loaded.")
        said = str(failure(error, transformer.code)["error"])
        if transformer.functions and "model_fn" not in transformer.own:
            said += f" {transformer.program} has no model_fn: name a script that has one with --entry-point."
        return said
    return ""


def answered(transformer: Transformer, head: dict[str, Any], body: bytearray) -> tuple[dict[str, Any], bytes]:
    """What the script answers, or what is said instead; the traceback goes to the log."""
    try:
        return transformer.answer(head, body)
    except BaseException as error:
        said = failure(error, transformer.code)
        log.exception("A request failed: %s", said["error"])
        return said, b""


def _read(line: socket.socket, requests: "queue.SimpleQueue[tuple[dict[str, Any], bytearray] | None]") -> None:
    """Requests from the socket; at its end the process has little time left, whatever the script is doing."""
    with line.makefile("rb") as file, suppress(OSError):
        while len(sizes := file.read(FRAME.size)) == FRAME.size:
            head, body = FRAME.unpack(sizes)
            content = file.read(head + body)
            if len(content) == head + body:
                requests.put((json.loads(content[:head]), bytearray(content[head:])))
    requests.put(None)
    time.sleep(LINGER_SECONDS)
    os._exit(1)


def _send(line: socket.socket, head: dict[str, Any], body: bytes) -> None:
    document = json.dumps(head).encode()
    line.sendall(FRAME.pack(len(document), len(body)) + document + body)


def _die_with_parent() -> None:
    """A handler that holds the interpreter's lock cannot notice that its instance is gone; the kernel can."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
