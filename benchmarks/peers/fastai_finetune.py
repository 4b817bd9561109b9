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
    Learner,
    Normalize,
    Resize,
    accuracy,
    apply_init,
    aug_transforms,
    create_head,
    default_split,
    imagenet_stats,
    set_seed,
)

BEGAN = time.perf_counter()


class Say(Callback):  # type: ignore[misc]
    """Writes what an epoch reached, and what everything has cost up to its end."""

    order = 60  # behind the recorder, which has the numbers

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
    # What `vision_learner` does: its own looks for a pooling module by which to cut, and MobileNetV2 has none.
    network = torchvision.models.mobilenet_v2()
    network.load_state_dict(torch.load(weights, weights_only=True))
    model = torch.nn.Sequential(torch.nn.Sequential(network.features), create_head(1280, loaders.c))
    apply_init(model[1], torch.nn.init.kaiming_normal_)
    learner = Learner(loaders, model, splitter=default_split, metrics=accuracy, cbs=[Say()])
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)  # one epoch with the body frozen, then so many of everything


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
