"""What becomes of files that cannot be decoded: left out and named, or too many to go on; beneath `cache`."""

import logging
from collections.abc import Mapping

from houndsight.errors import DataError
from houndsight.spec import Index, Reject, Split, SplitName

log = logging.getLogger("houndsight")

SHARE = 0.05
"""Share of a split's files that may be unreadable before the data is refused."""
_NAMED = 5


def leave_out(index: Index, unreadable: Mapping[str, str]) -> Index:
    """`index` without the files in `unreadable` (path -> reason), which join its rejects; same fingerprint.

    Raises `DataError` where they are more than 5 % of a split, or all images of a class of train.
    """
    splits: dict[SplitName, Split] = {}
    rejects: list[Reject] = []
    for name, split in index.splits.items():
        bad = [path for path in split.paths if path in unreadable]
        if len(bad) > SHARE * len(split):
            raise _too_many(name, split, bad, unreadable)
        rejects += [Reject(path=path, split=name, reason=unreadable[path]) for path in bad]
        splits[name] = _without(split, unreadable) if bad else split
    if not rejects:
        return index
    train = set(splits["train"].labels)
    gone = [label for number, label in enumerate(index.classes) if number not in train]
    if gone:
        names = ", ".join(f"'{label}'" for label in gone)
        raise DataError(f"No image of train can be read of: {names}.", "Repair these images or delete the folders.")
    first = ", ".join(f"{each.path} ({each.reason})" for each in rejects[:_NAMED])
    more = f" and {len(rejects) - _NAMED:,} more" if len(rejects) > _NAMED else ""
    log.warning("Left out, for they cannot be read: %s%s.", first, more)
    return index.model_copy(update={"splits": splits, "rejects": (*index.rejects, *rejects)})


def _too_many(name: str, split: Split, bad: list[str], reasons: Mapping[str, str]) -> DataError:
    first = ", ".join(f"{path} ({reasons[path]})" for path in bad[:_NAMED])
    more = f" and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
    return DataError(
        f"{len(bad):,} of the {len(split):,} images of {name} cannot be read, more than 5 %: {first}{more}.",
        "Repair or delete these files.",
    )


def _without(split: Split, unreadable: Mapping[str, str]) -> Split:
    keep = [row for row, path in enumerate(split.paths) if path not in unreadable]
    return Split(
        paths=tuple(split.paths[row] for row in keep),
        labels=tuple(split.labels[row] for row in keep),
        sizes=tuple(split.sizes[row] for row in keep),
    )
