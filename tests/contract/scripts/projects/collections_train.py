"""A hook made by hand: collections, a save config, a tensor and a scalar of its own; the new names of weights."""

# ruff: noqa
# mypy: ignore-errors

import argparse
import os

import smdebug.pytorch as smd
import torch
from smdebug.pytorch import SaveConfig
from torch import nn
from torchvision import datasets, models, transforms


def main(args):
    model = models.resnet18(weights=models.ResNet18_Weights.IMAGENET1K_V1)
    for param in model.parameters():
        param.requires_grad = False
    model.fc = nn.Sequential(nn.Dropout(0.2), nn.Linear(model.fc.in_features, 10))
    hook = smd.Hook(
        out_dir=args.output_dir + "/tensors",
        include_collections=["losses", "weights", "head"],
        save_config=SaveConfig(save_interval=2),
    )
    hook.get_collection("head").include("fc.*weight")
    hook.register_hook(model)
    criterion = nn.CrossEntropyLoss()
    hook.register_loss(criterion)
    optimizer = torch.optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=args.lr)
    transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(args.data, transform=transform), batch_size=20, shuffle=True
    )
    model.train()
    for step, (inputs, labels) in enumerate(loader):
        hook.set_mode(smd.modes.TRAIN)
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        hook.save_scalar("seen", (step + 1) * 20)
        hook.record_tensor_value("batch_mean", inputs.mean())
    print("Loss: %.4f" % loss.item())
    torch.save(model.state_dict(), os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--data", default=os.environ["SM_CHANNEL_TRAIN"])
    parser.add_argument("--output_dir", default=os.environ["SM_OUTPUT_DATA_DIR"])
    parser.add_argument("--model_dir", default=os.environ["SM_MODEL_DIR"])
    main(parser.parse_args())
