"""Real images for the demo, out of a package that is installed anyway: scikit-learn's 1,797 handwritten digits."""

from pathlib import Path

from houndsight.workspace import friendly_disk_errors

SCALE = 4  # the scans have 8 x 8 pixels: too few for a network that halves its picture five times


def write_digits(folder: Path) -> int:
    """Write each digit as a 32 x 32 PNG into the folder of its class; returns how many there are.

    The images were collected by E. Alpaydin and C. Kaynak (1998, UCI machine learning repository, CC BY 4.0).
    Raises `WorkspaceError` or `DiskFullError` where the folder cannot be written.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    with friendly_disk_errors(folder):
        for name in digits.target_names:
            (folder / str(name)).mkdir(parents=True, exist_ok=True)
        for number, (image, label) in enumerate(zip(pixels, digits.target, strict=True)):
            side = image.shape[0] * SCALE
            picture = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
            picture.save(folder / str(label) / f"{number:04}.png")
    return len(pixels)
