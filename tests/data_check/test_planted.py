"""Every kind of planted fault is found, and nothing else is."""

import shutil
from pathlib import Path

import pytest

from houndsight.data import clean
from houndsight.data.check import RULES, check
from houndsight.data.folder import scan
from houndsight.spec import Finding, Index
from tests.data_check import plant


def flagged(findings: list[Finding]) -> dict[str, set[str]]:
    files: dict[str, set[str]] = {}
    for each in findings:
        files.setdefault(each.rule, set()).update(each.files)
    return files


def test_a_sound_tree_raises_nothing(sound: Path) -> None:
    findings = check(scan(sound))
    assert {each.rule for each in findings} == {"small_split"}
    assert all(each.severity == "info" for each in findings)


def test_every_planted_fault_is_found_and_nothing_else(
    faulty: tuple[Index, list[Finding], plant.Planted],
) -> None:
    _, findings, planted = faulty
    result = {kind: (found, wrong) for kind, found, wrong in plant.tally(planted, flagged(findings), {})}
    assert result == dict.fromkeys(plant.RULE_OF, (20, 0))


def test_the_worst_stands_first_and_every_rule_is_known(faulty: tuple[Index, list[Finding], plant.Planted]) -> None:
    _, findings, _ = faulty
    order = ["error", "warning", "info"]
    ranks = [order.index(each.severity) for each in findings]
    assert ranks == sorted(ranks)
    assert {each.rule for each in findings} <= set(RULES)
    assert all(each.repair for each in findings if each.severity != "info")


def test_the_written_list_is_sound(faulty: tuple[Index, list[Finding], plant.Planted], tmp_path: Path) -> None:
    index, findings, planted = faulty
    written = clean.write(tmp_path / "clean.csv", index, findings)
    again = scan(tmp_path / "clean.csv")
    assert sum(map(len, again.splits.values())) == len(written.kept)
    rules = {each.rule for each in check(again)}
    assert rules <= {"small_split", "tiny", "extreme_aspect", "grey"}
    kept = {file.path for file in written.kept}
    assert kept.isdisjoint(planted.files["exact contradiction"])
    assert kept.isdisjoint(planted.sources["exact contradiction"])
    assert kept.issuperset(planted.files["exact leak"]), "the copy in valid or test is the one that is kept"
    assert kept.isdisjoint(planted.sources["exact leak"])


def test_every_rule_stands_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
    assert [rule for rule in RULES if f"`{rule}`" not in page] == []


@pytest.mark.assets
@pytest.mark.slow
def test_faults_in_real_pictures(assets: Path, tmp_path: Path) -> None:
    """100 of each kind in 3,905 photographs of dogs, which hold 132 pairs of copies themselves."""
    root = tmp_path / "dogs"
    for split in ("train", "valid", "test"):
        shutil.copytree(assets / "data/dogs" / split, root / split)
    before = check(scan(root))
    known = [group for each in before for group in each.evidence.get("groups", ())]
    assert sum(len(group) - 1 for group in known) > 110
    planted = plant.plant(root, count=100)
    found = flagged(check(scan(root)))
    result = {kind: hits for kind, hits, _ in plant.tally(planted, found, flagged(before))}
    assert result == dict.fromkeys(plant.RULE_OF, 100)
    kin = {path for group in known for path in group}
    kin |= {path for paths in (*planted.files.values(), *planted.sources.values()) for path in paths}
    assert all(paths <= kin for rule, paths in found.items() if rule in clean.COPIES)
