"""Trains with fastai as documented, or at its best: `fastai_train.py FOLDER MODEL EPOCHS usual|best`."""

import sys

import torch
from fastai.vision.all import (
    ImageDataLoaders,
    Learner,
    Normalize,
    Resize,
    accuracy,
    create_timm_model,
    imagenet_stats,
    set_seed,
)


def main(folder: str, model: str, epochs: int, best: bool) -> None:
    set_seed(0)
    # As documented the loader starts as many workers as there are cores, anew in every epoch.
    loaders = ImageDataLoaders.from_folder(
        folder,
        valid="valid",
        item_tfms=Resize(224),
        batch_tfms=[Normalize.from_stats(*imagenet_stats)],
        bs=32,
        device=torch.device("cpu"),
        **({"persistent_workers": True} if best else {}),
    )
    network, _ = create_timm_model(model, loaders.c, pretrained=False)
    if best:
        network = network.to(memory_format=torch.channels_last)
    learner = Learner(loaders, network, metrics=accuracy)
    if best:
        with learner.no_bar(), learner.no_logging():
            learner.fit(epochs, 1e-3)
    else:
        learner.fit(epochs, 1e-3)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "best")
