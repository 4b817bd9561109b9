"""What Amazon's inference toolkits give a SageMaker script: content types, default handlers, context and errors.

Written after the behaviour of sagemaker-inference 1.10, sagemaker-pytorch-inference 2.0 and TorchServe's context; a
test compares them. Used by the process that runs the script (`handlers_worker`). One thing differs on purpose: no
array is unpickled, neither on its way in nor out.
"""

import importlib.util
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

JSON, CSV, NPY, NPZ = "application/json", "text/csv", "application/x-npy", "application/x-npz"
OCTET_STREAM, ANY = "application/octet-stream", "*/*"
UTF8_TYPES = [JSON, CSV]
"""Bodies of these types reach a handler as text, all others as bytes."""
SUPPORTED_CONTENT_TYPES = {JSON, CSV, NPY}
"""What predictions are encoded as."""
DEFAULT_MODEL_FILENAME = "model.pt"


class UnsupportedFormatError(Exception):
    """A content type that no default handler reads or writes."""

    def __init__(self, content_type: object) -> None:
        super().__init__(
            f"Content type {content_type} is not supported by this framework. Please implement input_fn to deserialize "
            "the request data or an output_fn to serialize the response."
        )


class BaseInferenceToolkitError(Exception):
    """What a script raises to choose the status of the answer."""

    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        self.status_code = status_code
        """HTTP status."""
        self.message = message
        """What the caller is told."""
        self.phrase = phrase
        """The status in words."""
        super().__init__(status_code, message, phrase)


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """The same with a message of its own where none is given."""

    def __init__(self, status_code: int, message: str | None = None, phrase: str | None = None) -> None:
        message = message or "Invalid Request"
        super().__init__(status_code, message, phrase or message)


class ModelLoadError(Exception):
    """The one model file is no TorchScript."""


# ------------------------------------------------------------------------------------ content types


def decode(obj: Any, content_type: str | None) -> Any:
    """A body of a default content type as an array; raises `UnsupportedFormatError` for another type."""
    import numpy as np

    match content_type:
        case "application/json":
            return np.array(json.loads(obj))
        case "text/csv":
            return np.genfromtxt(io.StringIO(obj), dtype=None, delimiter=",")
        case "application/x-npy":
            return np.load(io.BytesIO(obj), allow_pickle=False)
        case "application/x-npz":
            from scipy import sparse

            return sparse.load_npz(io.BytesIO(obj))
    raise UnsupportedFormatError(content_type)


def encode(array_like: Any, content_type: str) -> str | bytes:
    """An array, or lists of numbers, in a default content type; raises `UnsupportedFormatError` for another type."""
    import numpy as np

    match content_type:
        case "application/json":
            return json.dumps(array_like, default=_plain)
        case "text/csv":
            text = io.StringIO()
            np.savetxt(text, array_like, delimiter=",", fmt="%s")
            return text.getvalue()
        case "application/x-npy":
            body = io.BytesIO()
            np.save(body, array_like, allow_pickle=False)
            return body.getvalue()
    raise UnsupportedFormatError(content_type)


def _plain(value: Any) -> Any:
    """Arrays and tensors as lists; raises `TypeError` for what JSON cannot hold."""
    to_list = getattr(value, "tolist", None)
    return json.JSONEncoder().default(value) if to_list is None else to_list()


def parse_accept(accept: str) -> list[str]:
    """The media types of an Accept header, in its order."""
    return accept.replace(" ", "").split(",")


# ---------------------------------------------------------------------------------- default handlers


class Defaults:
    """The handlers of the PyTorch container, for those that a script does not define."""

    def default_model_fn(self, model_dir: str) -> Any:
        """`model.pt`, or else the only .pt or .pth file, as TorchScript, on the GPU where there is one."""
        import torch

        path = Path(model_dir) / DEFAULT_MODEL_FILENAME
        if not path.exists():
            files = [each for each in Path(model_dir).iterdir() if each.is_file() and each.suffix in (".pt", ".pth")]
            if len(files) != 1:
                names = [each.name for each in files]
                raise ValueError(f"Exactly one .pth or .pt file is required for PyTorch models: {names}")
            path = files[0]
        try:
            model = torch.jit.load(str(path), map_location=_device())  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ModelLoadError(f"Failed to load {path}. Please ensure model is saved using torchscript.") from error
        return model.to(_device())

    def default_input_fn(self, input_data: Any, content_type: str | None) -> Any:
        """JSON, CSV or NPY as a tensor; float32 where the body was text."""
        import torch

        array = decode(input_data, content_type)
        tensor = torch.FloatTensor(array) if content_type in UTF8_TYPES else torch.from_numpy(array)
        return tensor.to(_device())

    def default_predict_fn(self, data: Any, model: Any) -> Any:
        """The model, in eval mode and without gradients, asked on the GPU where there is one."""
        import torch

        with torch.no_grad():
            model = model.to(_device())
            moved = data.to(_device())
            model.eval()
            return model(moved)

    def default_output_fn(self, prediction: Any, accept: str) -> Any:
        """A prediction as JSON, CSV or NPY, whichever the caller names first."""
        torch = sys.modules.get("torch")
        if torch is not None and type(prediction) is torch.Tensor:
            prediction = prediction.detach().cpu().numpy().tolist()
        for content_type in parse_accept(accept):
            if content_type in SUPPORTED_CONTENT_TYPES:
                encoded = encode(prediction, content_type)
                return encoded.encode() if content_type == CSV and isinstance(encoded, str) else encoded
        raise UnsupportedFormatError(accept)


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# ------------------------------------------------------------------------------------------- context


class Context:
    """What a handler with one argument more is told of the request, and how it words its answer; TorchServe's names."""

    def __init__(self, model_dir: str) -> None:
        self.model_name = "model"
        self.manifest: dict[str, Any] = {}
        self.metrics = None
        self.system_properties = {
            "model_dir": model_dir, "gpu_id": None, "batch_size": 1, "server_name": "MMS",
            "server_version": "houndsight", "limit_max_image_pixels": True,
        }  # fmt: skip
        self.request_ids: dict[int, str] = {}
        self.request_processor = [RequestProcessor({})]

    def get_request_id(self, idx: int = 0) -> str | None:
        """The request's number."""
        return self.request_ids.get(idx)

    def get_request_header(self, idx: int, key: str) -> str | None:
        """One header of the request, or None."""
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        """All headers of the request."""
        return self.request_processor[idx].get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Name the answer's content type; what output_fn or Accept says comes after it and wins."""
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        """The answer's content type so far."""
        return self.get_response_headers(idx).get("content-type")

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        """The answer's status and its words so far."""
        return self.request_processor[idx].get_response_status_code(), self.request_processor[idx].phrase

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Choose the answer's status."""
        self.request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """Choose the answer's status; there is one request at a time."""
        self.set_response_status(code, phrase)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        """Headers of the answer so far."""
        return self.request_processor[idx].get_response_headers()

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set one header of the answer."""
        self.request_processor[idx].add_response_property(key, value)


class RequestProcessor:
    """One request and the outside of its answer."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        self._response: dict[str, str] = {}
        self._status = 200
        self.phrase: str | None = None

    def get_request_property(self, key: str) -> str | None:
        """One header of the request, whatever the case of its name."""
        names = {name.lower(): value for name, value in self._headers.items()}
        return names.get(key.lower())

    def get_request_properties(self) -> dict[str, str]:
        """All headers of the request."""
        return self._headers

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Choose the status."""
        self._status, self.phrase = code, reason_phrase

    def get_response_status_code(self) -> int:
        """The chosen status."""
        return self._status

    def add_response_property(self, key: str, value: str) -> None:
        """Set a header of the answer."""
        self._response[key] = value

    def get_response_headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return self._response


# ----------------------------------------------------------------------------------------- own import


def provide() -> None:
    """Let a script `import sagemaker_inference`, as in Amazon's images; an installed one is left alone."""
    if importlib.util.find_spec("sagemaker_inference") is not None:
        return
    parts: dict[str, dict[str, Any]] = {
        "content_types": {
            "JSON": JSON, "CSV": CSV, "NPY": NPY, "NPZ": NPZ, "OCTET_STREAM": OCTET_STREAM, "ANY": ANY,
            "UTF8_TYPES": UTF8_TYPES,
        },
        "decoder": {"decode": decode},
        "encoder": {"encode": encode, "SUPPORTED_CONTENT_TYPES": SUPPORTED_CONTENT_TYPES},
        "errors": {
            "UnsupportedFormatError": UnsupportedFormatError,
            "BaseInferenceToolkitError": BaseInferenceToolkitError,
            "GenericInferenceToolkitError": GenericInferenceToolkitError,
        },
        "utils": {"parse_accept": parse_accept},
        "default_inference_handler": {"DefaultInferenceHandler": Defaults},
    }  # fmt: skip
    package = sys.modules["sagemaker_inference"] = ModuleType("sagemaker_inference", "Houndsight's stand-in.")
    package.__path__ = []
    for name, contents in parts.items():
        module = sys.modules[f"sagemaker_inference.{name}"] = ModuleType(f"sagemaker_inference.{name}")
        vars(module).update(contents)
        setattr(package, name, module)
