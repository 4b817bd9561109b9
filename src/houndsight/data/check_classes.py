"""Findings about classes and splits: missing, unknown, small, unbalanced, near-equal names; part of `data.check`."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from houndsight.data.looks import File, Look
from houndsight.metrics import wilson
from houndsight.spec import Finding, Index, Reject

UNBALANCED = 3.0
"""Largest over smallest class of train from which on it is told."""
VERY_UNBALANCED = 10.0
"""The same from which on it is a warning: accuracy then says little of the small classes."""
FEW = 5
"""Images of a class in train below which it can hardly be learned."""
_NUMBERED = re.compile(r"(\d+)[^\w]*[._-](.+)")
COARSE = 0.05
"""Half of the 95 % interval at 90 % accuracy from which on a split is too small to tell models apart."""

_REJECTS = (
    ("its class ", "unknown_class"),
    ("class ", "missing_class"),
    ("not an image", "not_an_image"),
    ("lies outside", "outside_classes"),
    ("does not exist", "missing_file"),
)
"""How the reasons of `Index.rejects` begin, and the rule they come under; any other is `left_out`."""
_ADVICE = {
    "unknown_class": "Add the class to train, or rename its folder as in train.",
    "missing_class": "Add images of it: no number of this split speaks of this class.",
    "not_an_image": "",
    "outside_classes": "Move them into the folder of their class.",
    "missing_file": "Correct these lines of the list.",
    "left_out": "",
}


def of_classes(index: Index, files: Sequence[File], looks: Sequence[Look]) -> list[Finding]:
    """Every finding that needs counts and names only; unreadable files are not counted."""
    counts: dict[str, Counter[int]] = {name: Counter() for name in index.splits}
    for file, look in zip(files, looks, strict=True):
        if not look.reason:
            counts[file.split][file.label] += 1
    return [
        *_left_out(index.rejects),
        *_near_equal(index.classes),
        *_balance(index.classes, counts.get("train", Counter())),
        *_small(index.classes, counts.get("train", Counter())),
        *(finding for split in ("valid", "test") if split in counts for finding in _interval(split, counts[split])),
    ]


def _left_out(rejects: Sequence[Reject]) -> Iterator[Finding]:
    """One finding a reason, word for word as the scan gave it."""
    by_reason: dict[tuple[str, str], list[Reject]] = defaultdict(list)
    for reject in rejects:
        rule = next((rule for start, rule in _REJECTS if reject.reason.startswith(start)), "left_out")
        by_reason[rule, reject.reason].append(reject)
    for (rule, reason), found in by_reason.items():
        many = f"{len(found):,} files are left out" if len(found) > 1 else f"{found[0].path} is left out"
        yield Finding(
            source="check",
            rule=rule,
            severity="info" if rule == "not_an_image" else "warning",
            files=() if rule == "missing_class" else tuple(reject.path for reject in found),
            message=f"{_capital(reason)}." if rule == "missing_class" else f"{many}: {reason}.",
            repair=_ADVICE[rule],
        )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def near_equal(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ by case, blanks and punctuation, or by one letter in six or more.

    Names that differ in a digit only (`type_1`, `type_2`) are meant to. Two names one letter apart share a spelling
    with one letter left out, so no pair needs to be compared: 1,000 names take 20 ms.
    """
    bare = _without_numbers(names)
    plain = {name: "".join(each for each in text.casefold() if each.isalnum()) for name, text in bare.items()}
    spelled: dict[str, list[str]] = defaultdict(list)
    for name, letters in plain.items():
        shorter = {letters[:at] + letters[at + 1 :] for at in range(len(letters))} if len(letters) >= 6 else set()
        for spelling in {letters, *shorter}:
            spelled[spelling].append(name)
    found = {
        (a, b)
        for alike in spelled.values()
        for at, a in enumerate(alike)
        for b in alike[at + 1 :]
        if _meant_alike(plain[a], plain[b])
    }
    return sorted(found)


def _without_numbers(names: Sequence[str]) -> dict[str, str]:
    """The names less a running number in front (`001.Afghan`, `002.Airedale`, ...), where all have one."""
    parts = {name: _NUMBERED.fullmatch(name) for name in names}
    numbers = sorted(int(part[1]) for part in parts.values() if part)
    running = len(numbers) == len(names) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return {name: part[2] if running and part else name for name, part in parts.items()}


def _meant_alike(a: str, b: str) -> bool:
    without = ["".join(each for each in name if not each.isdigit()) for name in (a, b)]
    return bool(a) and (a == b or (without[0] != without[1] and abs(len(a) - len(b)) <= 1))


def _near_equal(classes: Sequence[str]) -> Iterator[Finding]:
    pairs = near_equal(classes)
    if pairs:
        said = ", ".join(f"'{a}' and '{b}'" for a, b in pairs[:5])
        yield Finding(
            source="check",
            rule="near_equal_names",
            message=f"Class names are nearly equal: {said}{', ...' if len(pairs) > 5 else ''}.",
            repair="If they are one class, merge the folders.",
            evidence={"pairs": [list(pair) for pair in pairs]},
        )


def _balance(classes: Sequence[str], counts: Counter[int]) -> Iterator[Finding]:
    present = {classes[label]: count for label, count in counts.items() if count}
    if len(present) < 2:
        return
    least, most = min(present, key=present.__getitem__), max(present, key=present.__getitem__)
    ratio = present[most] / present[least]
    if ratio < UNBALANCED:
        return
    share = present[most] / sum(present.values())
    yield Finding(
        source="check",
        rule="imbalance",
        severity="warning" if ratio >= VERY_UNBALANCED else "info",
        message=f"Train has {ratio:.1f} times as many images of '{most}' ({present[most]:,}) as of '{least}' "
        f"({present[least]:,}); always saying '{most}' would be right for {100 * share:.0f} %.",
        repair="Add images of the small classes, or train with --class-weights balanced and look at balanced accuracy.",
        evidence={"ratio": round(ratio, 2), "largest": most, "smallest": least, "majority_share": round(share, 4)},
    )


def _small(classes: Sequence[str], counts: Counter[int]) -> Iterator[Finding]:
    few = {name: counts[label] for label, name in enumerate(classes) if 0 < counts[label] < FEW}
    if few:
        said = ", ".join(f"'{name}' ({count})" for name, count in list(few.items())[:8])
        yield Finding(
            source="check",
            rule="small_class",
            message=f"{len(few):,} classes have fewer than {FEW} images in train: {said}{', ...' * (len(few) > 8)}.",
            repair="Add images: twenty a class are a good start.",
            evidence={"counts": few},
        )


def _interval(split: str, counts: Counter[int]) -> Iterator[Finding]:
    """What a difference in accuracy on this split can mean: the 95 % Wilson interval at 90 %."""
    count = counts.total()
    if not count:
        return
    span = wilson(0.9 * count, count)
    half = (span.high - span.low) / 2
    coarse = half > COARSE
    yield Finding(
        source="check",
        rule="small_split",
        status="IssuesFound" if coarse else "NoIssuesFound",
        severity="warning" if coarse else "info",
        message=f"With {count:,} {split} images at 90 % accuracy the 95 % interval is ±{100 * half:.1f} points"
        f" ({100 * span.low:.1f} to {100 * span.high:.1f} %).",
        repair="Models closer than that cannot be told apart here; add images to this split." if coarse else "",
        evidence={"split": split, "n": count, "low": span.low, "high": span.high},
    )
