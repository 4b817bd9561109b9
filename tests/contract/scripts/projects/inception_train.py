"""A network with two outputs in training, mixed precision where there is a GPU, a scheduler, two optimizers' groups."""

# ruff: noqa
# mypy: ignore-errors

import argparse
import logging
import os
import sys

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import datasets, transforms

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)
logger.addHandler(logging.StreamHandler(sys.stderr))


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.aux = nn.Linear(8 * 7 * 7, 10)
        self.head = nn.Sequential(nn.Linear(8 * 7 * 7, 32), nn.GELU(), nn.Dropout(0.2), nn.Linear(32, 10))

    def forward(self, x):
        x = self.stem(x).flatten(1)
        if self.training:
            return self.head(x), self.aux(x)
        return self.head(x)


def main(args):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = transforms.Compose(
        [transforms.Resize((32, 32)), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    )
    sets = {
        each: datasets.ImageFolder(os.path.join(args.data_dir, each), images) for each in ("train", "valid", "test")
    }
    loaders = {
        each: torch.utils.data.DataLoader(sets[each], args.batch_size, shuffle=True, num_workers=2) for each in sets
    }
    model = TwoHeads().to(device)
    groups = [
        {"params": model.stem.parameters(), "lr": args.lr / 10},
        {"params": [*model.head.parameters(), *model.aux.parameters()]},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    for epoch in range(args.epochs):
        model.train()
        for x, y in loaders["train"]:
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, enabled=device.type == "cuda"):
                out, aux = model(x)
                loss = criterion(out, y) + 0.4 * criterion(aux, y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for x, y in loaders["valid"]:
                right += (model(x.to(device)).argmax(1).cpu() == y).sum().item()
        logger.info("epoch %d val_accuracy: %.4f", epoch, right / len(sets["valid"]))
    torch.save(model.cpu().state_dict(), os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--data_dir", default=os.environ.get("SM_CHANNEL_TRAINING", "data"))
    parser.add_argument("--model_dir", default=os.environ.get("SM_MODEL_DIR", "."))
    main(parser.parse_args())
