"""Trains with Houndsight in this process, so that its CPU time counts: `houndsight_train.py FOLDER MODEL EPOCHS`."""

import sys

import houndsight

if __name__ == "__main__":
    houndsight.train(
        sys.argv[1],
        backend="inline",
        backbone=f"timm/{sys.argv[2]}",
        weights="none",
        freeze="none",
        recipe="plain",
        image_size=224,
        precision="float32",
        device="cpu",
        epochs=int(sys.argv[3]),
    )
