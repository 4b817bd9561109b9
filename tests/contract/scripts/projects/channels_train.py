"""A channel a split, get_hook, modes from smdebug itself, str2bool, logging to standard error, a network of its own."""

# ruff: noqa
# mypy: ignore-errors

import argparse
import logging
import os

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from smdebug import modes
from smdebug.profiler.utils import str2bool
from smdebug.pytorch import get_hook

logging.basicConfig(level=logging.INFO, format="%(asctime)s - %(levelname)s - %(message)s")
logger = logging.getLogger(__name__)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(16 * 7 * 7, 10)

    def forward(self, x):
        x = self.relu1(self.conv1(x))
        x = self.relu2(self.conv2(x))
        return self.fc(torch.flatten(x, 1))


def train(args, model, device, train_loader, optimizer, epoch, hook):
    model.train()
    if hook:
        hook.set_mode(modes.TRAIN)
    for batch_idx, (data, target) in enumerate(train_loader, 1):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data), target)
        loss.backward()
        optimizer.step()
        if args.verbose:
            logger.info("Train Epoch: %d [%d] Loss: %.6f", epoch, batch_idx * len(data), loss.item())


def test(model, device, test_loader, hook, name):
    model.eval()
    if hook:
        hook.set_mode(modes.EVAL)
    test_loss, correct = 0, 0
    with torch.no_grad():
        for data, target in test_loader:
            output = model(data.to(device))
            test_loss += F.cross_entropy(output, target.to(device), reduction="sum").item()
            correct += (output.argmax(1) == target.to(device)).sum().item()
    test_loss /= len(test_loader.dataset)
    logger.info("%s set: Average loss: %.4f, Accuracy: %d/%d", name, test_loss, correct, len(test_loader.dataset))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-b", "--batch-size", type=int, default=16)
    parser.add_argument("-e", type=int, dest="epochs", default=2)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--verbose", type=str2bool, default=False)
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--valid", default=os.environ.get("SM_CHANNEL_VALID"))
    parser.add_argument("--test", default=os.environ.get("SM_CHANNEL_TEST"))
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    args = parser.parse_args()
    torch.manual_seed(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    sets = {each: datasets.ImageFolder(getattr(args, each), transform=images) for each in ("train", "valid", "test")}
    loaders = {each: DataLoader(sets[each], batch_size=args.batch_size, shuffle=each == "train") for each in sets}
    model = Net().to(device)
    hook = get_hook(create_if_not_exists=True)
    if hook:
        hook.register_module(model)
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, loaders["train"], optimizer, epoch, hook)
        test(model, device, loaders["valid"], hook, "Validation")
    test(model, device, loaders["test"], hook, "Test")
    with open(os.path.join(args.model_dir, "model.pth"), "wb") as f:
        torch.save(model.state_dict(), f)


if __name__ == "__main__":
    main()
