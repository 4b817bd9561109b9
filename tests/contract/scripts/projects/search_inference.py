"""Loads a whole module that was pickled, in the torch of before 2.6."""

# ruff: noqa
# mypy: ignore-errors

import os

import torch
from PIL import Image
from io import BytesIO
from torchvision import transforms


def model_fn(model_dir):
    model = torch.load(os.path.join(model_dir, "model.pth"), map_location="cpu")
    model.eval()
    return model


def input_fn(request_body, content_type="image/jpeg"):
    image = Image.open(BytesIO(request_body))
    transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    return transform(image).unsqueeze(0)


def predict_fn(input_data, model):
    with torch.no_grad():
        return model(input_data)
