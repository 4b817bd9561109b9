"""Spaces that are ready: ours, and those of the first four dog-breed projects."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "head": {
        "lr": "log:1e-4..3e-2",
        "weight_decay": "log:1e-4..1",
        "batch_size": [16, 32, 64, 128],
        "epochs": "int:5..30",
        "label_smoothing": [0.0, 0.1],
    },
    "fine-tune": {"lr": "log:1e-5..1e-3", "layer_decay": "revlog:0.5..0.95", "augment": ["crop-flip", "trivial"]},
    "dogs-1": {"lr": "0.001..0.1", "batch_size": [32, 64, 128, 256, 512]},
    "dogs-2": {
        "lr": "log:0.0001..0.1",
        "eps": "1e-9..1e-8",
        "weight_decay": "0.001..0.1",
        "batch_size": [64, 128],
    },
    "dogs-3": {"lr": "0.001..0.1", "batch_size": [32, 64, 128], "epochs": "int:2..4"},
    "dogs-4": {"lr": "0.01..0.1", "batch_size": [8, 16, 32, 64, 128], "epochs": "int:5..10"},
}
"""Name -> space. `head` is for a frozen backbone, `fine-tune` for all of it; the others are those that the dog-breed
projects searched."""

SETTINGS: dict[str, dict[str, Any]] = {
    "head": {"freeze": "all"},
    "fine-tune": {"recipe": "lp-ft"},
    **{name: {"recipe": "seed"} for name in PRESETS if name.startswith("dogs-")},
}
"""Name -> settings of the job beside the space, where the user gives none."""
