"""Trains with Lightning and torchvision: `lightning_train.py FOLDER MODEL EPOCHS usual|best`."""

import sys
from pathlib import Path

import lightning
import timm
import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2


class Classifier(lightning.LightningModule):
    def __init__(self, model: str, classes: int) -> None:
        super().__init__()
        self.network = timm.create_model(model, num_classes=classes)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = functional.cross_entropy(logits, labels)
        self.log("loss", loss, prog_bar=True)
        self.log("accuracy", (logits.argmax(1) == labels).float().mean(), on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        images, labels = batch
        logits = self.network(images)
        self.log("valid_loss", functional.cross_entropy(logits, labels))
        self.log("valid_accuracy", (logits.argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(folder: str, model: str, epochs: int, best: bool) -> None:
    transform = v2.Compose(
        [
            *([v2.ToImage()] if best else []),
            v2.Resize(256),
            v2.CenterCrop(224),
            *([] if best else [v2.ToImage()]),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    train, valid = (datasets.ImageFolder(str(Path(folder) / split), transform) for split in ("train", "valid"))
    workers = {"num_workers": 2, "persistent_workers": True} if best else {"num_workers": 2}
    network = Classifier(model, len(train.classes))
    if best:
        network = network.to(memory_format=torch.channels_last)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", default_root_dir=folder, **(quiet if best else {"logger": False})
    )
    trainer.fit(network, DataLoader(train, 32, shuffle=True, **workers), DataLoader(valid, 32, **workers))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "best")
