"""`.cuda()` behind a question, log_softmax with NLLLoss, register_module, tqdm around the loader, best weights kept."""

# ruff: noqa
# mypy: ignore-errors

import argparse
import copy
import os
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torchvision import datasets, models, transforms
from tqdm import tqdm

import smdebug.pytorch as smd
from smdebug.pytorch import modes


class Classifier(nn.Module):
    def __init__(self):
        super(Classifier, self).__init__()
        self.backbone = models.squeezenet1_1(weights=None)
        self.backbone.classifier[1] = nn.Conv2d(512, 32, kernel_size=1)
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        return F.log_softmax(self.fc(self.backbone(x)), dim=1)


def evaluate(model, loader, criterion, hook):
    model.eval()
    hook.set_mode(modes.EVAL)
    total, right = 0.0, 0
    with torch.inference_mode():
        for x, y in loader:
            if torch.cuda.is_available():
                x, y = x.cuda(), y.cuda()
            out = model(x)
            total += criterion(out, y).item() * len(x)
            right += (out.argmax(1) == y).sum().item()
    return total / len(loader.dataset), right / len(loader.dataset)


def main(args):
    torch.manual_seed(0)
    model = Classifier()
    if torch.cuda.is_available():
        model.cuda()
    criterion = nn.NLLLoss()
    optimizer = optim.AdamW(model.parameters(), lr=args.lr)
    hook = smd.Hook.create_from_json_file()
    hook.register_module(model)
    hook.register_loss(criterion)
    images = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
    root = os.path.join(args.data_dir, "")
    loaders = {
        split: torch.utils.data.DataLoader(
            datasets.ImageFolder(root + split, images), args.batch_size, shuffle=split == "train"
        )
        for split in ("train", "valid")
    }
    best, best_weights = 0.0, copy.deepcopy(model.state_dict())
    for epoch in range(args.epochs):
        model.train()
        hook.set_mode(modes.TRAIN)
        bar = tqdm(loaders["train"], desc=f"Epoch {epoch}", file=sys.stderr)
        for x, y in bar:
            if torch.cuda.is_available():
                x, y = x.cuda(), y.cuda()
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            bar.set_postfix(loss=loss.item())
        loss, accuracy = evaluate(model, loaders["valid"], criterion, hook)
        print(f"Validation loss: {loss:.4f} Accuracy: {accuracy:.3f}", file=sys.stderr)
        if accuracy >= best:
            best, best_weights = accuracy, copy.deepcopy(model.state_dict())
    torch.save({"state_dict": best_weights, "accuracy": best}, os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--data-dir", default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    main(parser.parse_args())
