"""Asks for a GPU whether there is one or not."""

# ruff: noqa
# mypy: ignore-errors

import os

import torch
from torch import nn

model = nn.Linear(4, 2).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = nn.CrossEntropyLoss()(model(torch.ones(2, 4).cuda()), torch.tensor([0, 1]).cuda())
loss.backward()
optimizer.step()
torch.save(model.state_dict(), os.path.join(os.environ["SM_MODEL_DIR"], "model.pth"))
