"""The network itself and Amazon's four handlers: copied as it stands into every artifact as `code/inference.py`.

It imports nothing of Houndsight, so that a SageMaker PyTorch container needs only torch, torchvision (or timm),
Pillow and safetensors; Houndsight builds its own networks with the same functions. The handlers read `model.json`
and `model.safetensors` from the model folder and take an encoded image, or an .npy array of uint8 pixels; no
address is ever fetched and nothing is unpickled.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

MAX_BYTES = 32 * 2**20  # one encoded image; Amazon's own limit on a request is 6 MiB
MAX_PIXELS = 178_956_970  # Pillow's own limit: 512 MiB of decoded RGB
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_BATCH = 256  # images of one .npy array


# ------------------------------------------------------------------------------------------ network


def create_backbone(name: str, image_size: int | None = None) -> nn.Module:
    """The named network with random weights and without its classifier: images (B, 3, S, S) -> features (B, D).

    `timm/` before a name takes it from timm, else it is torchvision's; what follows a dot names published weights
    and does not change a torchvision network. `image_size` builds networks of one fixed size for that size.
    """
    if name.startswith("timm/"):
        return _timm_backbone(name.removeprefix("timm/"), image_size)
    from torchvision import models

    arch = name.partition(".")[0]
    settings: dict[str, Any] = {}
    if arch in {"googlenet", "inception_v3"}:
        settings = {"init_weights": False, "aux_logits": False}
    elif image_size is not None and arch.startswith("vit_"):
        settings = {"image_size": image_size}
    elif image_size is not None and arch.startswith("maxvit"):
        settings = {"input_size": (image_size, image_size)}
    return cut_classifier(models.get_model(arch, weights=None, **settings))


def _timm_backbone(name: str, image_size: int | None) -> nn.Module:
    import timm

    settings: dict[str, Any] = {}
    published = timm.models.get_pretrained_cfg(name)
    usual = published.input_size[-1] if published is not None and published.fixed_input_size else None
    if usual is not None and image_size is not None and image_size != usual:
        settings = {"img_size": image_size}
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **settings)
    return network


def cut_classifier(network: nn.Module) -> nn.Module:
    """Put Identity in place of a torchvision network's last layer of 1000 outputs and of the dropout just before it."""
    layers = [
        name
        for name, layer in network.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == 1000)
        or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.out_channels == 1000)
    ]
    place, _, last = layers[-1].rpartition(".")
    parent = network.get_submodule(place)
    siblings = list(parent.named_children())
    position = [name for name, _ in siblings].index(last)
    setattr(parent, last, nn.Identity())
    if position and isinstance(siblings[position - 1][1], nn.Dropout):
        setattr(parent, siblings[position - 1][0], nn.Identity())
    return network


def create_head(features: int, hidden: tuple[int, ...], classes: int, dropout: float) -> nn.Sequential:
    """Features (B, D) -> logits (B, C): linear, or with a ReLU layer a width in `hidden`; dropout before each."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Dropout(dropout), nn.Linear(features, width), nn.ReLU()]
        features = width
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(features, classes))


def normalise(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, S, S) -> float32 (x / 255 - mean) / std, `mean` and `std` being (1, 3, 1, 1); strides are kept."""
    return (images.to(torch.float32) - 255.0 * mean) / (255.0 * std)


class Classifier(nn.Module):
    """uint8 images (B, 3, S, S) -> calibrated probabilities (B, C); what `model_fn` returns."""

    def __init__(self, card: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.classes: list[str] = card["classes"]
        self.preprocess: dict[str, Any] = card["preprocess"]
        self.temperature: float = card["temperature"]
        self.backbone = create_backbone(card["backbone"], self.preprocess["image_size"])
        first = min(int(key.split(".")[1]) for key in state if key.startswith("head."))
        features = state[f"head.{first}.weight"].shape[1]
        self.head = create_head(features, tuple(card["hidden"]), len(self.classes), card["dropout"])
        for name in ("mean", "std"):
            values = torch.tensor(self.preprocess[name], dtype=torch.float32).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        load_exactly(self, state)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """The outputs before temperature and softmax, (B, C)."""
        logits: torch.Tensor = self.head(self.backbone(normalise(images, self.mean, self.std)))
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities, (B, C); each row sums to 1."""
        return torch.softmax(self.logits(images).double() / self.temperature, dim=1)


def load_exactly(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load every tensor, none missing and none left over; raises RuntimeError where one does not fit.

    The version numbers that torch keeps beside a state dict do not survive safetensors, and MNASNet refuses to load
    without them: they are taken from the network itself.
    """
    versions = vars(network.state_dict())["_metadata"]
    state = type(network.state_dict())(state)
    vars(state)["_metadata"] = versions
    network.load_state_dict(state)


# ------------------------------------------------------------------------------------------- images


def decode(data: bytes) -> np.ndarray:
    """Encoded image -> (H, W, 3) uint8 RGB as people see it: turned upright, transparency on white, 16 bits scaled."""
    from PIL import Image, ImageOps

    if len(data) > MAX_BYTES:
        raise ValueError(f"The image has {len(data)} bytes; {MAX_BYTES} is the most that is taken.")
    image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"The image has {image.width} x {image.height} pixels; {MAX_PIXELS} is the most.")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise ValueError("32-bit pixels have no fixed white; convert the image to 8 or 16 bits.")
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def fit_to(image: np.ndarray, preprocess: dict[str, Any]) -> np.ndarray:
    """(H, W, 3) uint8 -> (S, S, 3): antialiased resize of the shorter side, then the centre; as in training.

    A picture more than four times as long as wide is first cut to its centre 4:1.
    """
    side, shorter = preprocess["resize"], min(image.shape[:2])
    top, left = (max(0, (length - 4 * shorter) // 2) for length in image.shape[:2])
    image = image[top : top + 4 * shorter, left : left + 4 * shorter]
    height, width = (side * length // shorter for length in image.shape[:2])
    if (height, width) != image.shape[:2]:
        pixels = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1).unsqueeze(0)
        resized = nn.functional.interpolate(
            pixels, size=(height, width), mode=preprocess["interpolation"], antialias=True
        )
        image = resized[0].permute(1, 2, 0).numpy()
    square = _centre(image, side, side)
    return _centre(square, preprocess["image_size"], preprocess["image_size"])


def _centre(image: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return np.ascontiguousarray(image[top : top + height, left : left + width])


# ----------------------------------------------------------------------------------------- handlers


def model_fn(model_dir: str) -> Classifier:
    """Read the artifact in `model_dir`; on a GPU where there is one."""
    from safetensors.torch import load_file

    folder = Path(model_dir)
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    if card["format"] != 1:
        raise ValueError(f"{folder / 'model.json'} has format {card['format']}; this file reads format 1.")
    model = Classifier(card, load_file(folder / "model.safetensors")).eval()
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def input_fn(data: bytes, content_type: str | None) -> tuple[torch.Tensor | bytes, bool]:
    """An encoded image, or uint8 pixels (S, S, 3) or (n, S, S, 3) as .npy; the second item: whether it is one image."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "application/x-npy":
        pixels = np.load(io.BytesIO(data), allow_pickle=False)
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
            raise ValueError(f"Expected uint8 pixels (n, S, S, 3), got {pixels.dtype} {pixels.shape}.")
        if pixels.ndim == 4 and not 0 < len(pixels) <= MAX_BATCH:
            raise ValueError(f"Expected 1 to {MAX_BATCH} images, got {len(pixels)}.")
        batch = pixels if pixels.ndim == 4 else pixels[None]
        return torch.from_numpy(batch).permute(0, 3, 1, 2), pixels.ndim == 3
    if kind.startswith("image/") or kind in {"application/x-image", "application/octet-stream"}:
        return bytes(data), True
    raise ValueError(f"Content type {content_type!r} is not taken: send image/jpeg, image/png or application/x-npy.")


def predict_fn(data: tuple[torch.Tensor | bytes, bool], model: Classifier) -> dict[str, Any]:
    """Calibrated probabilities (n, C) with the names of the classes."""
    images, single = data
    if isinstance(images, bytes):
        pixels = fit_to(decode(images), model.preprocess)
        images = torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)
    side = model.preprocess["image_size"]
    if images.shape[2:] != (side, side):
        raise ValueError(f"Expected images of {side} x {side} pixels, got {tuple(images.shape[2:])}.")
    with torch.inference_mode():
        probabilities = model(images.to(model.mean.device)).cpu().numpy()
    return {"classes": model.classes, "probabilities": probabilities, "single": single}


def output_fn(prediction: dict[str, Any], accept: str | None = "application/json") -> tuple[bytes, str]:
    """JSON `{"predictions": [{"class", "probability"}, ...]}`, most probable first (a list of them for many images).

    `application/x-npy` gives the probabilities in the order of `model.json`.
    """
    if (accept or "").partition(";")[0].strip().lower() == "application/x-npy":
        body = io.BytesIO()
        np.save(body, prediction["probabilities"], allow_pickle=False)
        return body.getvalue(), "application/x-npy"
    answers = [
        {
            "predictions": [
                {"class": prediction["classes"][place], "probability": float(row[place])}
                for place in np.argsort(-row, kind="stable")
            ]
        }
        for row in prediction["probabilities"]
    ]
    return json.dumps(answers[0] if prediction["single"] else answers).encode(), "application/json"
