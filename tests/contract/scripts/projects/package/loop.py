"""The loop; the hook is asked for where it is needed."""

# ruff: noqa
# mypy: ignore-errors

import torch
from smdebug.pytorch import get_hook
from torch import nn


def fit(model, optimizer, loaders, epochs):
    criterion = nn.CrossEntropyLoss()
    hook = get_hook(create_if_not_exists=True)
    if hook:
        hook.register_loss(criterion)
    for epoch in range(epochs):
        for phase in ("train", "valid"):
            model.train(phase == "train")
            total = 0.0
            for x, y in loaders[phase]:
                with torch.set_grad_enabled(phase == "train"):
                    loss = criterion(model(x), y)
                if phase == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                total += loss.item() / len(loaders[phase])
            print(f"{phase} Loss: {total:.4f}")
