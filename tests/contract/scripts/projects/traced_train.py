"""A network that is saved by torch.jit, the hosts as JSON, every number of the environment, no hook anywhere."""

# ruff: noqa
# mypy: ignore-errors

import argparse
import json
import os

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms


def build():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(64, 10),
    )


def train(args):
    is_distributed = len(args.hosts) > 1
    print(
        "hosts {} of {}, {} GPUs, distributed {}".format(args.current_host, args.hosts, args.num_gpus, is_distributed)
    )
    use_cuda = args.num_gpus > 0
    device = torch.device("cuda" if use_cuda else "cpu")
    torch.manual_seed(args.seed)
    if use_cuda:
        torch.cuda.manual_seed(args.seed)
    kwargs = {"num_workers": 1, "pin_memory": True} if use_cuda else {}
    images = transforms.Compose(
        [transforms.Resize((32, 32)), transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    train_set = datasets.ImageFolder(os.path.join(args.data, "train"), transform=images)
    valid_set = datasets.ImageFolder(os.path.join(args.data, "valid"), transform=images)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, **kwargs)
    valid_loader = DataLoader(valid_set, batch_size=args.batch_size, **kwargs)
    model = build().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    for epoch in range(1, args.epochs + 1):
        model.train()
        for data, target in train_loader:
            data, target = data.to(device), target.to(device)
            optimizer.zero_grad()
            loss = criterion(model(data), target)
            loss.backward()
            optimizer.step()
        scheduler.step()
        evaluate(model, valid_loader, criterion, device)
    model.eval()
    traced = torch.jit.trace(model.cpu(), torch.randn(1, 3, 32, 32))
    torch.jit.save(traced, os.path.join(args.model_dir, "model.pt"))


@torch.no_grad()
def evaluate(model, loader, criterion, device):
    model.eval()
    loss, correct = 0.0, 0
    for data, target in loader:
        data, target = data.to(device), target.to(device)
        output = model(data)
        loss += criterion(output, target).item()
        correct += (output.argmax(1) == target).sum().item()
    print("val_loss={:.4f}; val_accuracy={:.4f};".format(loss / len(loader), correct / len(loader.dataset)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hosts", type=list, default=json.loads(os.environ["SM_HOSTS"]))
    parser.add_argument("--current-host", type=str, default=os.environ["SM_CURRENT_HOST"])
    parser.add_argument("--num-gpus", type=int, default=os.environ["SM_NUM_GPUS"])
    parser.add_argument("--data", type=str, default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    train(parser.parse_args())
