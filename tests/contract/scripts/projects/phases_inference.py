"""The other order of names: `request_content_type`; an input that stays bytes until predict_fn, an output_fn of its own."""

# ruff: noqa
# mypy: ignore-errors

import json
import os
from io import BytesIO

import torch
import torch.nn as nn
import torchvision.models as models
import torchvision.transforms as transforms
from PIL import Image

device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def model_fn(model_dir):
    model = models.resnet18(pretrained=True)
    model.fc = nn.Linear(512, 10)
    model.load_state_dict(torch.load(os.path.join(model_dir, "model.pth")))
    return model.to(device)


def input_fn(request_body, request_content_type):
    assert request_content_type in ("image/jpeg", "image/png", "application/x-image")
    return request_body


def predict_fn(input_data, model):
    image = Image.open(BytesIO(input_data))
    transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    model.eval()
    return model(transform(image).unsqueeze(0).to(device))


def output_fn(predictions, content_type):
    assert content_type == "application/json"
    return json.dumps(predictions.detach().cpu().numpy().tolist())
