"""What a training reads, images or features computed once; between the decoded images and the loop."""

import logging
import shutil
from pathlib import Path

import torch

from houndsight.data.cache import DecodedImages
from houndsight.data.loader import Batches, ImageBatches
from houndsight.features.batches import FeatureBatches
from houndsight.features.depth import Front, cut
from houndsight.features.extract import Extractor
from houndsight.models.network import Network
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec, Index
from houndsight.training import linear, plan
from houndsight.workspace import Progress

log = logging.getLogger("houndsight")

SAMPLE = 4  # images on which a cut network is compared with the whole one
MOST_BYTES = 12 << 30  # room that the feature maps of one training may take


def prepare(
    spec: ClassifierSpec,
    net: Network,
    index: Index,
    images: DecodedImages,
    cache: Path,
    records: RecordWriter,
    progress: Progress,
) -> Batches:
    """What the training will read: images, or features of what is frozen; the head fitted where that is asked.

    Where the first stages of the network are frozen and their features were computed, the network passes these
    stages by until `Network.put_back`.
    """
    once = spec.augment == "none" or spec.views > 0  # every image looks the same in each epoch
    frozen = spec.freeze == "all" and once

    def extractor(front: torch.nn.Module | None = None) -> Extractor:
        return Extractor(
            net,
            index,
            images,
            cache,
            front=front,
            precision=spec.precision,
            device=plan.device_of(spec),
            threads=spec.threads,
            progress=progress,
        )

    if frozen or spec.head_start == "probe":
        whole = extractor()
        with records.span("features", step=0):
            features = whole.features()
            views = whole.views(spec.views, spec.seed, spec.augment) if frozen and spec.views else None
        if spec.optimizer == "lbfgs" or spec.head_start == "probe":
            with records.span("probe", step=0):
                linear.fit_head(net, features, index, spec, records)
        if frozen:
            return FeatureBatches(index, features.splits, batch_size=spec.batch_size, seed=spec.seed, views=views)
    if isinstance(spec.freeze, int) and spec.freeze and once and not spec.first_size:
        front = _front(spec, net, index, images, cache)
        if front is not None:
            part = extractor(front)
            with records.span("features", step=0):
                features = part.features()
                views = part.views(spec.views, spec.seed, spec.augment) if spec.views else None
            net.leave_out(front.modules_in_order)
            return FeatureBatches(index, features.splits, batch_size=spec.batch_size, seed=spec.seed, views=views)
    return ImageBatches(
        index,
        images,
        net.preprocess,
        batch_size=spec.batch_size,
        seed=spec.seed,
        augment=spec.augment,
        workers=spec.workers,
        first=plan.small_epochs(spec, net, index),
    )


def _front(spec: ClassifierSpec, net: Network, index: Index, images: DecodedImages, cache: Path) -> Front | None:
    """The frozen stages, where they can run apart from the rest and what they make has room."""
    assert isinstance(spec.freeze, int)
    squares = images.sample("train", SAMPLE, net.preprocess.image_size)
    sample = torch.from_numpy(squares).permute(0, 3, 1, 2)
    front = cut(net, spec.freeze, sample)
    if front is None:
        log.info("%s does not come apart after stage %d: every epoch runs all of it.", net.name, spec.freeze)
        return None
    with torch.inference_mode():
        each = 4 * front(sample[:1]).numel()
    times = max(1, spec.views)
    count = sum(len(split) for split in index.splits.values()) + (times - 1) * len(index.splits["train"])
    cache.mkdir(parents=True, exist_ok=True)
    room = min(MOST_BYTES, shutil.disk_usage(cache).free // 2)
    if count * each > room:
        log.info(
            "What the first %d stages make of the images would take %.1f GB, more than the %.1f GB that are granted: "
            "every epoch runs all of %s.", spec.freeze, count * each / 1e9, room / 1e9, net.name,
        )  # fmt: skip
        return None
    log.info("The first %d stages run once per image; what they make takes %.2f GB.", spec.freeze, count * each / 1e9)
    return front
