"""Training and answers in one script, smdebug only where it is there; deployed as it is."""

# ruff: noqa
# mypy: ignore-errors

import argparse
import io
import logging
import os
import sys

import torch
import torch.nn as nn
import torchvision.models as models
import torchvision.transforms as transforms
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

try:
    import smdebug.pytorch as smd
except ModuleNotFoundError:
    print("[ERROR] Module 'smdebug' is not installed. Probably an inference container")

logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.StreamHandler(sys.stdout))

transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])


def net():
    model = models.mobilenet_v2(weights=None, width_mult=0.25)
    model.classifier[1] = nn.Linear(model.last_channel, 10)
    return model


def model_fn(model_dir):
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    model = net().to(device)
    with open(os.path.join(model_dir, "model.pth"), "rb") as f:
        model.load_state_dict(torch.load(f, map_location=device))
    return model.eval()


def input_fn(request_body, content_type="image/jpeg"):
    return transform(Image.open(io.BytesIO(request_body))).unsqueeze(0)


def main(args):
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    model = net().to(device)
    hook = smd.Hook.create_from_json_file()
    hook.register_hook(model)
    criterion = nn.CrossEntropyLoss(ignore_index=133)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)
    loader = DataLoader(
        ImageFolder(args.data, transform=transform), batch_size=args.batch_size, shuffle=True, num_workers=2
    )
    hook.set_mode(smd.modes.TRAIN)
    model.train()
    for step, (inputs, labels) in enumerate(loader):
        optimizer.zero_grad()
        loss = criterion(model(inputs.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        hook.save_scalar("training_loss", loss.item(), sm_metric=True)
        logger.info(f"Step {step} Loss: {loss.item():.3f}")
    torch.save(model.state_dict(), os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--data", type=str, default=os.environ["SM_CHANNEL_TRAIN"])
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    args = parser.parse_args()
    main(args)
