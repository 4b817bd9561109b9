"""Findings about single files: unreadable, constant, tiny, huge, stretched, grey among colour; part of `data.check`."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from houndsight.data.looks import File, Look
from houndsight.spec import Finding

MOST_UNREADABLE = 0.05
"""Share of a split's files from which on training is refused; `data.cache` holds to the same."""
TINY = 32
"""Shorter side in pixels below which a picture is tiny: an eighth of what networks are trained at."""
HUGE = 20_000_000
"""Pixels above which a picture costs some 0.2 s to decode, at every first reading."""
STRETCHED = 4.0
"""Longer side over shorter side above which `data.images` cuts the ends off before resizing."""
COMMON = 0.5
"""Share of the pictures from which on an oddity is the nature of the data and is told in one line, as information."""


def of_files(files: Sequence[File], looks: Sequence[Look]) -> list[Finding]:
    """Every finding that needs one file at a time."""
    sound = [(file, look) for file, look in zip(files, looks, strict=True) if not look.reason]
    return [
        *_unreadable(files, looks),
        *_constant(sound),
        *_tiny(sound),
        *_huge(sound),
        *_stretched(sound),
        *_grey(sound),
    ]


def _unreadable(files: Sequence[File], looks: Sequence[Look]) -> list[Finding]:
    broken = {file: look.reason for file, look in zip(files, looks, strict=True) if look.reason}
    if not broken:
        return []
    total, lost = Counter(file.split for file in files), Counter(file.split for file in broken)
    share = max(lost[split] / total[split] for split in lost)
    kinds = Counter(reason.split(":")[0] for reason in broken.values())
    said = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common(4))
    refused = share > MOST_UNREADABLE
    return [
        Finding(
            source="check",
            rule="unreadable",
            severity="error" if refused else "warning",
            files=tuple(file.path for file in broken),
            message=f"{len(broken):,} of {len(files):,} files cannot be read: {said}.",
            repair="Replace or delete them"
            + (": training refuses more than 5 % of a split." if refused else "; training leaves them out."),
            evidence={"reasons": {file.path: reason for file, reason in broken.items()}, "share": round(share, 4)},
        )
    ]


def _odd(
    rule: str,
    found: Sequence[tuple[File, Look]],
    of: int,
    message: str,
    repair: str,
    severity: Literal["info", "warning"] = "warning",
) -> list[Finding]:
    """One finding on pictures with an oddity; as information where most pictures have it."""
    if not found:
        return []
    common = len(found) > COMMON * of
    return [
        Finding(
            source="check",
            rule=rule,
            severity="info" if common else severity,
            files=tuple(file.path for file, _ in found),
            message=f"{len(found):,} of {of:,} pictures {message}",
            repair="" if common else repair,
            evidence={"sizes": {file.path: [look.width, look.height] for file, look in found}},
        )
    ]


def _constant(sound: Sequence[tuple[File, Look]]) -> list[Finding]:
    found = [(file, look) for file, look in sound if look.constant]
    return _odd("constant", found, len(sound), "show one colour and nothing else.", "Delete or replace them.")


def _tiny(sound: Sequence[tuple[File, Look]]) -> list[Finding]:
    found = [(file, look) for file, look in sound if min(look.width, look.height) < TINY]
    typical = f"{np.median([min(look.width, look.height) for _, look in sound]):.0f}" if sound else ""
    message = f"have a side under {TINY} pixels (typical: {typical})."
    return _odd("tiny", found, len(sound), message, "Delete them or find them in their original size.")


def _huge(sound: Sequence[tuple[File, Look]]) -> list[Finding]:
    found = [(file, look) for file, look in sound if look.width * look.height > HUGE]
    largest = max((look.width * look.height for _, look in found), default=0) / 1e6
    message = f"have more than {HUGE // 10**6} million pixels (largest: {largest:.0f}): slow to decode the first time."
    return _odd("huge", found, len(sound), message, "Resize them once, to 1,024 pixels say.", severity="info")


def _stretched(sound: Sequence[tuple[File, Look]]) -> list[Finding]:
    found = [(file, look) for file, look in sound if _aspect(look) > STRETCHED]
    worst = max((_aspect(look) for _, look in found), default=0.0)
    message = f"are more than {STRETCHED:.0f} times as long as wide (worst: {worst:.0f}); only the middle is seen."
    return _odd("extreme_aspect", found, len(sound), message, "Cut them to their subject.")


def _aspect(look: Look) -> float:
    return max(look.width, look.height) / min(look.width, look.height)


def _grey(sound: Sequence[tuple[File, Look]]) -> list[Finding]:
    """Grey pictures among coloured ones; worth a warning where being grey tells the class."""
    found = [(file, look) for file, look in sound if look.grey and not look.constant]
    colourful = [(file, look) for file, look in sound if not look.grey]
    if not found or len(found) > COMMON * len(sound):
        return (
            _odd("grey", found, len(sound), f"are grey; {len(colourful):,} are not.", "") if found and colourful else []
        )
    return _odd(
        "grey",
        found,
        len(sound),
        "are grey among coloured ones.",
        "Make sure that being grey does not give the class away.",
        severity="info",
    )
