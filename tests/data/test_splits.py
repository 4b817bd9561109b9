"""Properties of the made split, for any classes, names and seeds."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from houndsight.data.splits import divide, fingerprint
from houndsight.data.walk import Item, class_name, printable
from houndsight.spec import Split

names = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=12)
sizes = st.lists(st.integers(1, 60), min_size=1, max_size=6)
seeds = st.integers(0, 2**63)


def items(counts: list[int]) -> list[Item]:
    return [
        Item(f"{label}/{number}.jpg", str(label), 1) for label, count in enumerate(counts) for number in range(count)
    ]


@given(sizes, seeds)
def test_every_image_is_in_one_split_and_every_class_is_shared_fairly(counts: list[int], seed: int) -> None:
    parts = divide(items(counts), ("valid", "test"), seed)
    together = [item for part in parts.values() for item in part]
    assert sorted(item.path for item in together) == sorted(item.path for item in items(counts))
    for label, count in enumerate(counts):
        here = {name: sum(item.label == str(label) for item in part) for name, part in parts.items()}
        assert here["train"] >= 1
        assert here["valid"] == (max(1, round(count / 10 + 1e-9)) if count > 1 else 0)
        assert here.get("test", 0) == (here["valid"] if count > 2 else 0)


@given(sizes, seeds, st.randoms())
def test_the_order_in_which_files_were_found_does_not_matter(counts: list[int], seed: int, random: object) -> None:
    found = items(counts)
    shuffled = found[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = divide(found, ("valid", "test"), seed), divide(shuffled, ("valid", "test"), seed)
    assert {name: Counter(part) for name, part in one.items()} == {name: Counter(part) for name, part in other.items()}


@given(sizes, seeds)
def test_another_image_moves_few_of_the_others(counts: list[int], seed: int) -> None:
    before = divide(items(counts), ("valid",), seed)
    after = divide([*items(counts), Item("0/new.jpg", "0", 1)], ("valid",), seed)
    assert len({item.path for item in before["valid"]} ^ {item.path for item in after["valid"]}) <= 3


@given(st.lists(names, min_size=1, max_size=5, unique=True))
def test_any_name_can_be_fingerprinted(found: list[str]) -> None:
    paths = tuple(printable(f"a/{name}") for name in found)
    split = Split(paths=paths, labels=(0,) * len(paths), sizes=(1,) * len(paths))
    assert len(fingerprint({"train": split}, ["a"])) == 64


@given(st.binary(min_size=1, max_size=12))
def test_any_bytes_make_a_printable_class_name(raw: bytes) -> None:
    class_name(raw.decode("utf-8", "surrogateescape")).encode()
