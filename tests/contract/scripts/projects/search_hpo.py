"""hpo.py without smdebug: ReLU on the logits, a part of the images only, type=list, the whole module saved."""

# ruff: noqa
# mypy: ignore-errors

import argparse
import os

import torch
import torch.nn as nn
import torch.optim as optim
import torchvision
import torchvision.models as models
import torchvision.transforms as transforms


def test(model, test_loader, criterion):
    model.eval()
    test_loss, correct = 0, 0
    with torch.no_grad():
        for data, target in test_loader:
            output = model(data)
            test_loss += criterion(output, target).item()
            correct += output.argmax(dim=1, keepdim=True).eq(target.view(-1, 1)).sum().item()
    test_loss /= len(test_loader.dataset)
    print(f"Test Loss: {test_loss:.4f}, Accuracy: {correct / len(test_loader.dataset)}")


def train(model, train_loader, criterion, optimizer, epochs):
    for epoch in range(epochs):
        model.train()
        running_samples = 0
        for data, target in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(data), target)
            loss.backward()
            optimizer.step()
            running_samples += len(data)
            if running_samples > (0.5 * len(train_loader.dataset)):
                break
    return model


def net(hidden):
    model = models.resnet18(pretrained=True)
    for param in model.parameters():
        param.requires_grad = False
    model.fc = nn.Sequential(
        nn.Linear(512, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, 10), nn.ReLU(inplace=True)
    )
    return model


def main(args):
    model = net(args.hidden)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.fc.parameters(), lr=args.lr)
    transform = transforms.Compose([transforms.Resize(36), transforms.RandomCrop(32), transforms.ToTensor()])
    train_set = torchvision.datasets.ImageFolder(os.path.join(args.data_dir, "train"), transform)
    test_set = torchvision.datasets.ImageFolder(os.path.join(args.data_dir, "test"), transform)
    train_loader = torch.utils.data.DataLoader(train_set, args.batch_size, True)
    test_loader = torch.utils.data.DataLoader(test_set, args.batch_size)
    model = train(model, train_loader, criterion, optimizer, args.epochs)
    test(model, test_loader, criterion)
    torch.save(model, os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--layers", type=list, default=[16])
    parser.add_argument("--data-dir", type=str, default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    main(parser.parse_args())
