"""Keeps a deep copy of the best model, wraps it for several GPUs, scripts and pickles it; early stopping by a class."""

# ruff: noqa
# mypy: ignore-errors

import argparse
import copy
import os
import pickle

import smdebug.pytorch as smd
import torch
import torchvision.models as models
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.best, self.count, self.model = patience, float("inf"), 0, None

    def __call__(self, loss, model):
        if loss < self.best:
            self.best, self.count, self.model = loss, 0, copy.deepcopy(model)
        else:
            self.count += 1
        return self.count >= self.patience


def evaluate(model, loader, criterion, hook):
    hook.set_mode(smd.modes.EVAL)
    model.eval()
    total = 0.0
    with torch.no_grad():
        for x, y in loader:
            total += criterion(model(x), y).item() * x.size(0)
    return total / len(loader.dataset)


def main(args):
    torch.manual_seed(0)
    images = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
    train_set = datasets.ImageFolder(os.path.join(args.data, "train"), transform=images)
    valid_set = datasets.ImageFolder(os.path.join(args.data, "valid"), transform=images)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=args.batch_size)
    model = models.shufflenet_v2_x0_5(weights=None)
    model.fc = nn.Linear(model.fc.in_features, 10)
    parallel = nn.DataParallel(model)
    hook = smd.Hook.create_from_json_file()
    hook.register_hook(parallel)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.RMSprop(parallel.parameters(), lr=args.lr)
    stopping = EarlyStopping(2)
    for epoch in range(args.epochs):
        hook.set_mode(smd.modes.TRAIN)
        parallel.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(parallel(x), y)
            loss.backward()
            optimizer.step()
        valid_loss = evaluate(parallel, valid_loader, criterion, hook)
        print(f"epoch {epoch} valid loss {valid_loss:.4f}")
        if stopping(valid_loss, model):
            break
    best = stopping.model.eval()
    torch.jit.script(best).save(os.path.join(args.model_dir, "scripted.pt"))
    with open(os.path.join(args.output_dir, "everything.pkl"), "wb") as f:
        pickle.dump({"model": model, "criterion": criterion, "optimizer": optimizer.state_dict()}, f)
    torch.save(
        {"epoch": epoch, "model": best.state_dict(), "optimizer": optimizer.state_dict()},
        os.path.join(args.model_dir, "checkpoint.pth"),
    )
    with torch.no_grad():
        again = pickle.load(open(os.path.join(args.output_dir, "everything.pkl"), "rb"))["model"].eval()
        x, _ = next(iter(valid_loader))
        assert torch.equal(again(x), model.eval()(x))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--data", default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--output-dir", default=os.environ["SM_OUTPUT_DATA_DIR"])
    main(parser.parse_args())
