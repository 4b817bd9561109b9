"""One loop for training and validation, options with underscores, `//` in the metrics, hook on the model alone."""

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
from tqdm import tqdm

import smdebug.pytorch as smd


def test(model, test_loader, criterion, hook):
    hook.set_mode(smd.modes.EVAL)
    model.eval()
    running_loss = 0
    running_corrects = 0
    for inputs, labels in test_loader:
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        _, preds = torch.max(outputs, 1)
        running_loss += loss.item() * inputs.size(0)
        running_corrects += torch.sum(preds == labels.data)
    total_loss = running_loss // len(test_loader)
    total_acc = running_corrects.double() // len(test_loader)
    print(f"Testing Loss: {total_loss}")
    print(f"Testing Accuracy: {total_acc}")


def train(model, train_loader, validation_loader, criterion, optimizer, epochs, hook):
    best_loss = 1e6
    image_dataset = {"train": train_loader, "valid": validation_loader}
    loss_counter = 0
    hook.set_mode(smd.modes.TRAIN)
    for epoch in tqdm(range(epochs), desc="Training"):
        for phase in ["train", "valid"]:
            if phase == "train":
                model.train()
            else:
                model.eval()
            running_loss = 0.0
            running_corrects = 0
            for step, (inputs, labels) in enumerate(image_dataset[phase]):
                outputs = model(inputs)
                loss = criterion(outputs, labels)
                if phase == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                _, preds = torch.max(outputs, 1)
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels.data).item()
            epoch_loss = running_loss / len(image_dataset[phase].dataset)
            epoch_acc = running_corrects / len(image_dataset[phase].dataset)
            if phase == "valid":
                if epoch_loss < best_loss:
                    best_loss = epoch_loss
                else:
                    loss_counter += 1
            print("{} loss: {:.4f}, acc: {:.4f}, best loss: {:.4f}".format(phase, epoch_loss, epoch_acc, best_loss))
        if loss_counter == 1:
            break
    return model


def net():
    model = models.resnet18(pretrained=True)
    for param in model.parameters():
        param.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, 10)
    return model


def create_data_loaders(data, batch_size):
    train_transform = transforms.Compose([transforms.RandomResizedCrop((32, 32)), transforms.ToTensor()])
    test_transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    train_data = torchvision.datasets.ImageFolder(root=os.path.join(data, "train"), transform=train_transform)
    valid_data = torchvision.datasets.ImageFolder(root=os.path.join(data, "valid"), transform=test_transform)
    test_data = torchvision.datasets.ImageFolder(root=os.path.join(data, "test"), transform=test_transform)
    loader = torch.utils.data.DataLoader
    return (
        torch.utils.data.DataLoader(train_data, batch_size=batch_size, shuffle=True),
        loader(valid_data, batch_size=batch_size),
        loader(test_data, batch_size=batch_size),
    )


def main(args):
    model = net()
    hook = smd.Hook.create_from_json_file()
    hook.register_hook(model)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.fc.parameters(), lr=args.learning_rate)
    train_loader, valid_loader, test_loader = create_data_loaders(args.data, args.batch_size)
    model = train(model, train_loader, valid_loader, criterion, optimizer, args.epochs, hook)
    test(model, test_loader, criterion, hook)
    torch.save(model.cpu().state_dict(), os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning_rate", type=float)
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--data", type=str, default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--model_dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--output_dir", type=str, default=os.environ["SM_OUTPUT_DATA_DIR"])
    args, _ = parser.parse_known_args()
    main(args)
