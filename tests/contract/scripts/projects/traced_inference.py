"""TorchScript, and an input_fn whose answer is a plain array."""

# ruff: noqa
# mypy: ignore-errors

import io
import os

import numpy as np
import torch
from PIL import Image


def model_fn(model_dir):
    return torch.jit.load(os.path.join(model_dir, "model.pt")).eval()


def input_fn(request_body, content_type):
    image = Image.open(io.BytesIO(request_body)).convert("RGB").resize((32, 32))
    pixels = (np.asarray(image, dtype=np.float32) / 255 - 0.1307) / 0.3081
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)
