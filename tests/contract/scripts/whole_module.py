"""A small network on the digits, saved as a whole module."""

# ruff: noqa: PTH118
# mypy: ignore-errors

import argparse
import os

import numpy as np
import torch
from PIL import Image
from torch import nn

torch.set_num_threads(1)


def load(folder):
    classes = sorted(os.listdir(folder))
    images, labels = [], []
    for label, name in enumerate(classes):
        for file in sorted(os.listdir(os.path.join(folder, name))):
            images.append(np.asarray(Image.open(os.path.join(folder, name, file)), dtype=np.float32) / 255)
            labels.append(label)
    return torch.tensor(np.stack(images)).flatten(1), torch.tensor(labels)


def main(args):
    x, y = load(os.path.join(args.data, "train"))
    x_test, y_test = load(os.path.join(args.data, "test"))
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        for _ in range(20):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            out = model(x_test)
        test_loss = nn.functional.cross_entropy(out, y_test).item()
        accuracy = (out.argmax(1) == y_test).float().mean()
        print(f"Epoch {epoch} Test set: Average loss: {test_loss:.4f}, Accuracy: {accuracy:.3f}")
    torch.save(model, os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--data", default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    main(parser.parse_args())
