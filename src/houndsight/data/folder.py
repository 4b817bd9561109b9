"""The first station: from a path to an `Index` of files, labels by name and splits; no image is decoded here."""

import logging
import os
from pathlib import Path
from stat import S_ISDIR

from houndsight.data import filelist, hints, walk
from houndsight.data.splits import ALIASES, ORDER, TWO_CLASSES, assemble, near_equal_names
from houndsight.data.walk import FORMATS, Item, Listing, class_name, is_image_name, printable
from houndsight.errors import DataError
from houndsight.spec import Index, Reject, SplitName

log = logging.getLogger("houndsight")


def scan(data: str | Path, *, split_seed: int = 0) -> Index:
    """Find the images of `data`: a folder with train, valid and test, class folders alone, or a CSV file list.

    Class folders alone are split 80/10/10 class by class, by `split_seed`. What is left out stands in
    `Index.rejects` with its reason. Raises `DataError` where the data cannot be trained on, with the repair.
    """
    if not str(data).strip() or "://" in str(data):
        raise DataError(
            f"'{data}' is not a folder on this machine.", "Give a folder with one sub-folder a class, or a CSV list."
        )
    root = Path(os.path.abspath(Path(data).expanduser()))  # noqa: PTH100  resolve() would follow links
    try:
        is_folder = S_ISDIR(root.stat().st_mode)
    except PermissionError as error:
        raise walk.unreadable(str(root), error) from error
    except (OSError, ValueError):
        raise DataError(f"{printable(str(root))} does not exist.", hints.instead_of(root)) from None
    if not is_folder:
        return filelist.scan(root, split_seed=split_seed) if root.suffix.lower() == ".csv" else _refuse_file(root)
    if shown(root) != str(root):
        raise DataError(f"The path {shown(root)} is not valid UTF-8.", "Rename the folder.")
    top = walk.listing(str(root))
    rejects: list[Reject] = []
    folders = _split_folders(root, top)
    if folders:
        found = _from_splits(root, top, folders, rejects)
    else:
        found = {"train": _from_classes(root, top, "", None, rejects)}
        hints.warn_of_siblings(root)
    return assemble(root, found, rejects, where=shown(root), split_seed=split_seed)


def shown(path: Path) -> str:
    """The path as it stands in messages."""
    return printable(str(path))


def _refuse_file(path: Path) -> Index:
    if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        raise DataError(f"{shown(path)} is an archive, not a folder.", "Unpack it and give the folder.")
    raise DataError(
        f"{shown(path)} is a file, not a folder.",
        "Give the folder that holds one sub-folder a class, or a .csv list with the columns path,label.",
    )


def _split_folders(root: Path, top: Listing) -> dict[SplitName, str]:
    """Split -> folder where `root` is laid out in splits; empty where its folders are classes.

    A folder named like a split counts as one where it holds folders itself: trains and buses in `train/` and `bus/`
    are two classes.
    """
    named = [name for name in top.folders if name.casefold() in ALIASES]
    nested = {name for name in named if walk.listing(str(root / name)).folders}
    others = [name for name in top.folders if name not in named]
    if not named or (others and not nested):
        _refuse_unknown_splits(root, top)
        for name in named:
            log.warning("The folder '%s' of %s is taken for a class, for it holds no folders.", name, shown(root))
        return {}
    folders: dict[SplitName, str] = {}
    for name in named:
        split = ALIASES[name.casefold()]
        if split in folders:
            raise DataError(
                f"{shown(root)} has two {split} folders, '{folders[split]}' and '{name}'.",
                "Merge them, or move one away.",
            )
        folders[split] = name
    if "train" in folders and (folders["train"] in nested or not others):
        return folders
    if not nested:
        return {}
    names = " and ".join(f"'{name}'" for name in named)
    raise DataError(f"{shown(root)} holds {names} but no 'train' with class folders.", "Add a folder train/.")


def _refuse_unknown_splits(root: Path, top: Listing) -> None:
    """Two folders of folders such as `training_set` and `test_set` are splits under names that are not known."""
    by_start = {
        start: name for name in top.folders for start in ("train", "test", "val") if name.casefold().startswith(start)
    }
    nested = [name for name in by_start.values() if walk.listing(str(root / name)).folders]
    if "train" in by_start and len(nested) > 1:
        names = " and ".join(f"'{name}'" for name in nested)
        raise DataError(f"{shown(root)} holds {names}, which look like splits.", "Name them train, valid and test.")


def _from_splits(
    root: Path, top: Listing, folders: dict[SplitName, str], rejects: list[Reject]
) -> dict[SplitName, list[Item]]:
    found: dict[SplitName, list[Item]] = {}
    for split in ORDER:
        if split not in folders:
            continue
        inside = walk.listing(str(root / folders[split]))
        if split == "train" or inside.folders:
            found[split] = _from_classes(root, inside, folders[split], split, rejects)
        if not found.get(split):
            found.pop(split, None)
            _nothing_in(root, folders[split], split, len(inside.files), rejects)
    beside = [name for name in top.folders if name not in folders.values()]
    rejects.extend(
        Reject(path=printable(name), reason="a folder beside train, valid and test is not read") for name in beside
    )
    if beside:
        log.warning("Not read: %s, beside the splits of %s.", ", ".join(map(printable, beside)), shown(root))
    if "valid" not in found and "test" in found:
        log.info("%s has no valid folder: a tenth of train is taken for validation.", shown(root))
    if "valid" not in found and "test" not in found:
        log.info("%s has train alone: it is split into train, valid and test.", shown(root))
    return found


def _nothing_in(root: Path, folder: str, split: SplitName, files: int, rejects: list[Reject]) -> None:
    """A split without class folders: an error, except a test folder of unlabelled files, which is left out."""
    what = f"{files:,} files but no class folders" if files else "no images"
    if split != "test":
        raise DataError(
            f"{shown(root / folder)} holds {what}.",
            "Put its images into folders named like the classes of train, or delete it to have it made of train.",
        )
    rejects.append(Reject(path=printable(folder), split=split, reason=f"holds {what}"))
    log.warning("%s holds %s: there is no test split.", shown(root / folder), what)


def _from_classes(
    root: Path, inside: Listing, folder: str, split: SplitName | None, rejects: list[Reject]
) -> list[Item]:
    """Images of the class folders in `root/folder`; raises `DataError` for no, one or an empty class in train."""
    place = root / folder
    prefix = f"{folder}/" if folder else ""
    must_be_whole = split in (None, "train")
    loose = [name for name in inside.files if is_image_name(name)]
    if not inside.folders:
        raise DataError(f"{shown(place)} has no class folders{_lying(loose)}.", hints.root_instead(root, TWO_CLASSES))
    near_equal_names(printable(name) for name in inside.folders)
    items: list[Item] = []
    empty: list[str] = []
    for name in inside.folders:
        of_class = walk.images(str(root), f"{prefix}{name}", class_name(name), split, rejects)
        items += of_class
        if not of_class:
            empty.append(class_name(name))
    if must_be_whole:
        _whole(root, place, inside, items, empty)
    rejects.extend(
        Reject(path=printable(f"{prefix}{name}"), split=split, reason="lies outside the class folders")
        for name in loose
    )
    return items


def _whole(root: Path, place: Path, inside: Listing, items: list[Item], empty: list[str]) -> None:
    nested = {item.label for item in items if _looks_split(item.path.split("/")[1:-1])}

    def refuse(said: str, repair: str) -> DataError:
        return DataError(f"{shown(place)} {said}.", hints.root_instead(root, repair))

    if not items:
        raise refuse(f"holds no images ({FORMATS})", TWO_CLASSES)
    if place == root and nested:
        raise refuse(f"is not the folder of classes: '{min(nested)}' holds a train folder", TWO_CLASSES)
    if len(inside.folders) == 1:
        raise refuse(f"holds one class only, '{class_name(inside.folders[0])}'", TWO_CLASSES)
    if empty:
        names = ", ".join(f"'{name}'" for name in empty)
        several = "classes have" if len(empty) > 1 else "class has"
        raise refuse(f"is not complete: {len(empty)} {several} no images: {names}", "Fill or delete these folders.")


def _lying(images: list[str]) -> str:
    return f": {len(images):,} images lie directly in it" if images else ""


def _looks_split(between: list[str]) -> bool:
    return len(between) > 1 and between[0].casefold() in ("train", "training")
