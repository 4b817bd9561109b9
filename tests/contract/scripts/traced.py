"""A network traced with torch.jit, its data read by worker processes."""

# ruff: noqa: PTH118
# mypy: ignore-errors

import os

import torch
from torch.utils.data import DataLoader, TensorDataset


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(x)


if __name__ == "__main__":
    torch.set_num_threads(1)
    data = TensorDataset(torch.randn(64, 64), torch.randint(0, 10, (64,)))
    seen = sum(len(x) for x, _ in DataLoader(data, batch_size=16, num_workers=2))
    traced = torch.jit.trace(Net().eval(), torch.randn(1, 64))
    traced.save(os.path.join(os.environ["SM_MODEL_DIR"], "model.pt"))
    print(f"seen {seen} torch {os.environ['SM_DLC_TORCH_VERSION'] == torch.__version__}")
