"""Frozen backbone, new head, hook on model and loss, options with dashes, one channel of three splits: the commonest."""

# ruff: noqa
# mypy: ignore-errors

import argparse
import logging
import os
import sys

import torch
import torch.nn as nn
import torch.optim as optim
import torchvision
import torchvision.models as models
import torchvision.transforms as transforms
from PIL import ImageFile

import smdebug.pytorch as smd

ImageFile.LOAD_TRUNCATED_IMAGES = True

logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.StreamHandler(sys.stdout))


def test(model, test_loader, criterion, device, hook):
    model.eval()
    hook.set_mode(smd.modes.EVAL)
    running_loss = 0
    running_corrects = 0
    with torch.no_grad():
        for inputs, labels in test_loader:
            inputs, labels = inputs.to(device), labels.to(device)
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            pred = outputs.argmax(dim=1, keepdim=True)
            running_loss += loss.item() * inputs.size(0)
            running_corrects += pred.eq(labels.view_as(pred)).sum().item()
    total_loss = running_loss / len(test_loader.dataset)
    logger.info(
        "\nTest set: Average loss: {:.4f}, Accuracy: {}/{} ({:.0f}%)\n".format(
            total_loss, running_corrects, len(test_loader.dataset), 100.0 * running_corrects / len(test_loader.dataset)
        )
    )


def train(model, train_loader, criterion, optimizer, device, epoch, hook):
    model.train()
    hook.set_mode(smd.modes.TRAIN)
    for inputs, labels in train_loader:
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
    logger.info(f"Epoch {epoch}: last loss {loss.item():.4f}")
    return model


def net():
    model = models.resnet18(pretrained=True)
    for param in model.parameters():
        param.requires_grad = False
    model.fc = nn.Sequential(nn.Linear(model.fc.in_features, 64), nn.ReLU(inplace=True), nn.Linear(64, 10))
    return model


def create_data_loaders(data, batch_size):
    train_transform = transforms.Compose(
        [
            transforms.Resize(36),
            transforms.RandomCrop(32),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    test_transform = transforms.Compose(
        [
            transforms.Resize((32, 32)),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    train_set = torchvision.datasets.ImageFolder(root=os.path.join(data, "train"), transform=train_transform)
    test_set = torchvision.datasets.ImageFolder(root=os.path.join(data, "test"), transform=test_transform)
    return (
        torch.utils.data.DataLoader(train_set, batch_size=batch_size, shuffle=True),
        torch.utils.data.DataLoader(test_set, batch_size=batch_size),
    )


def main(args):
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    logger.info(f"Running on Device {device}")
    model = net().to(device)
    hook = smd.Hook.create_from_json_file()
    hook.register_hook(model)
    train_loader, test_loader = create_data_loaders(args.data_dir, args.batch_size)
    criterion = nn.CrossEntropyLoss()
    hook.register_loss(criterion)
    optimizer = optim.AdamW(model.fc.parameters(), lr=args.lr, eps=args.eps, weight_decay=args.weight_decay)
    for epoch in range(1, args.epochs + 1):
        model = train(model, train_loader, criterion, optimizer, device, epoch, hook)
        test(model, test_loader, criterion, device, hook)
    torch.save(model.state_dict(), os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="input batch size for training")
    parser.add_argument("--epochs", type=int, default=2, metavar="N")
    parser.add_argument("--lr", type=float, default=0.1, metavar="LR")
    parser.add_argument("--eps", type=float, default=1e-8)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--data-dir", type=str, default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--output-dir", type=str, default=os.environ["SM_OUTPUT_DATA_DIR"])
    main(parser.parse_args())
