"""fastai's `fine_tune` from a file of weights; one JSON line an epoch: `fastai_finetune.py FOLDER WEIGHTS EPOCHS`."""

import json
import resource
import sys
import time

import torch
import torchvision
from fastai.vision.all import (
    Callback,
    ImageDataLoaders,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    imagenet_stats,
    set_seed,
    vision_learner,
)

BEGAN = time.perf_counter()


class Say(Callback):  # type: ignore[misc]
    """Writes what an epoch reached, and what everything has cost up to its end."""

    def after_epoch(self) -> None:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(each.ru_utime + each.ru_stime for each in used)
        reached = float(self.recorder.values[-1][-1])
        print(json.dumps({"accuracy": reached, "seconds": time.perf_counter() - BEGAN, "cpu": cpu}), flush=True)


def main(folder: str, weights: str, epochs: int) -> None:
    set_seed(0)
    loaders = ImageDataLoaders.from_folder(
        folder,
        valid="valid",
        item_tfms=Resize(224),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)],
        bs=32,
        device=torch.device("cpu"),
    )
    # `pretrained=False` alone would download; the weights of the file go into the body as the download would.
    # MobileNetV2 has no pooling module by which fastai finds the end of a body: it is everything but the last.
    learner = vision_learner(
        loaders,
        torchvision.models.mobilenet_v2,
        pretrained=False,
        normalize=False,
        cut=-1,
        metrics=accuracy,
        cbs=[Say()],
    )
    published = torch.load(weights, weights_only=True)
    body = {name.removeprefix("features."): each for name, each in published.items() if name.startswith("features.")}
    learner.model[0][0].load_state_dict(body)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)  # one epoch with the body frozen, then so many of everything


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
