"""The images, by a data set of the project's own."""

# ruff: noqa
# mypy: ignore-errors

import os

from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2


class Pictures(Dataset):
    def __init__(self, root):
        self.classes = sorted(os.listdir(root))
        self.files = [
            (os.path.join(root, c, f), i) for i, c in enumerate(self.classes) for f in os.listdir(os.path.join(root, c))
        ]
        self.transform = v2.Compose([v2.Resize((8, 8)), v2.ToTensor()])

    def __len__(self):
        return len(self.files)

    def __getitem__(self, idx):
        path, label = self.files[idx]
        return self.transform(Image.open(path).convert("RGB")), label


def loaders(root):
    return {s: DataLoader(Pictures(os.path.join(root, s)), batch_size=10, shuffle=True) for s in ("train", "valid")}
