"""Export: a trained model as a file for other runtimes, checked before it is handed out."""

from pathlib import Path

from houndsight.errors import SpecError, WorkspaceError, did_you_mean
from houndsight.results import Exported
from houndsight.verbs.models import find_model

FORMATS = ("onnx", "openvino")


def export(
    model: str | Path, to: str, output: str | Path | None = None, *, workspace: str | Path | None = None
) -> tuple[Path, Exported]:
    """Write `model` for `to` (`onnx` or `openvino`) into the folder `output`; the folder, and what the check found.

    By default the folder is `<model>-<to>` where the caller stands. Raises `ModelError` where the written network does
    not name the same class as the model on all of the validation images that it carries.
    """
    if to not in FORMATS:
        raise SpecError(
            f"One setting is wrong: to: '{to}' is no format that is written. {did_you_mean(to, FORMATS)}".strip(),
            f"Choose from {', '.join(FORMATS)}, or sagemaker with --entry-point.",
        )
    path = find_model(model, workspace)
    name = path.parent.name if path.name in ("model", "model.tar.gz", "output") else path.name.split(".")[0]
    folder = Path(output).expanduser() if output is not None else Path(f"{name}-{to}")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "export.json").is_file())):
        raise WorkspaceError(f"{folder} exists already, and is no earlier export.", "Choose another --output.")
    from houndsight.models import artifact
    from houndsight.models.export import export as write

    return folder, write(artifact.load(path), "onnx" if to == "onnx" else "openvino", folder)
