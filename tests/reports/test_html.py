"""The page as HTML: one file that asks for nothing, stays small, and shows hostile names as the text they are."""

import base64
import hashlib
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from houndsight.folders import JobFolder
from houndsight.reports import summary
from houndsight.results import Evaluation
from houndsight.workspace import write_json

from .factory import make_job

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "\" onmouseover='alert(3)' x=\"",
    "{{ 7 * 7 }}{% raw %}",
    "naïve 犬 🐕 \u2028 gnp",
    "<!-- <script>",
    "&lt;b&gt; &amp;",
    "names[datum.value]",
    "javascript:alert(4)",
    "e" * 300,
)


class Reader(HTMLParser):
    """Collects the elements, the addresses and the scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.held: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.held.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        self.held.append(("text", ""))

    def handle_data(self, data: str) -> None:
        """A long script comes in several pieces."""
        tag, before = self.held.pop() if self.held else ("text", "")
        self.held.append((tag, before + data))

    def inside(self, *tags: str) -> list[str]:
        return [text for tag, text in self.held if tag in tags]

    @property
    def scripts(self) -> list[str]:
        return self.inside("script")

    @property
    def words(self) -> str:
        """Everything that can be read."""
        return "".join(text for tag, text in self.held if tag not in ("script", "style"))

    @property
    def addresses(self) -> list[str]:
        names = ("src", "href", "srcset", "action", "poster", "data", "background", "formaction", "ping")
        return [value or "" for _, attributes in self.tags for name, value in attributes.items() if name in names]


def read(job: JobFolder) -> Reader:
    return Reader(job.report.read_text(encoding="utf-8"))


def test_every_address_is_a_place_on_the_page_or_data(finished: JobFolder) -> None:
    page = read(finished)
    assert page.addresses
    assert [each for each in page.addresses if not each.startswith(("#", "data:"))] == []
    targets = {attributes.get("id") for _, attributes in page.tags}
    assert {each[1:] for each in page.addresses if each.startswith("#")} <= targets
    style = "".join(page.inside("style")) + "".join(attributes.get("style") or "" for _, attributes in page.tags)
    assert "url(" not in style
    assert "@import" not in style


def test_ids_are_unique_and_headings_go_down_one_level_at_a_time(finished: JobFolder) -> None:
    page = read(finished)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in page.tags}


def test_pictures_and_charts_say_what_they_show(finished: JobFolder) -> None:
    page = read(finished)
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert pictures
    said = Counter((each.get("alt") or "").rpartition(" ")[0].split(",")[0].split(" ")[0] for each in pictures)
    assert said == {"Filed": 9, "What": 5, "": 2}  # mistakes, what spoke for half of them, the files of a finding
    maps = [attributes for tag, attributes in page.tags if tag == "canvas"]
    assert [each["data-map"] for each in maps] == [
        "map-gradient-norm",
        "map-update-ratio",
        "map-gradient-zeros",
        "map-dead-units",
        "map-cores",
    ]
    assert all(each.get("role") == "img" and each.get("aria-label") and each["tabindex"] == "0" for each in maps)
    plots = [attributes for _, attributes in page.tags if "data-chart" in attributes]
    assert len(plots) == 11
    assert all(each.get("role") == "img" and each.get("aria-label") for each in plots)


def test_only_the_scripts_that_the_policy_names_can_run(finished: JobFolder) -> None:
    page = read(finished)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy") or ""
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    run = [text for text in page.scripts if not text.lstrip().startswith("{")]
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in run}
    assert set(rules["script-src"].split()) == hashes
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_a_large_job_stays_under_two_megabytes(many: JobFolder) -> None:
    assert many.report.stat().st_size < 2_000_000
    assert many.report_data.stat().st_size < 1_000_000


def chart_data(page: Reader) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next(text for text in page.scripts if text.lstrip().startswith("{")))
    return found


def test_hostile_names_are_text(workspace_folder: Path) -> None:
    job = make_job(workspace_folder, classes=HOSTILE, per_class=6)
    summary.build(job)
    page = read(job)
    text = page.words
    assert all(name in text for name in HOSTILE)
    assert chart_data(page)["confusion"]["spec"]["params"][0]["value"] == list(HOSTILE)
    assert {tag for tag, _ in page.tags} <= read_tags(workspace_folder)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def read_tags(workspace_folder: Path) -> set[str]:
    """The elements of the same page with harmless names."""
    job = make_job(workspace_folder, "harmless", classes=[f"class_{n}" for n in range(len(HOSTILE))], per_class=6)
    summary.build(job)
    return {tag for tag, _ in read(job).tags}


@pytest.mark.parametrize("thumbnail", ["../../secret.jpg", "/etc/hostname", "missing.jpg", "", "text.jpg", "."])
def test_only_pictures_of_the_evaluation_are_inlined(workspace_folder: Path, thumbnail: str) -> None:
    job = make_job(workspace_folder, steps=5, per_class=6, mistakes=1)
    shutil.rmtree(job.thumbnails)
    (workspace_folder / "jobs" / "secret.jpg").write_bytes(b"\xff\xd8\xff secret")
    (job.evaluation / "text.jpg").write_text("no picture")
    before = Evaluation.read(job.evaluation / "test.json")
    mistake = before.mistakes[0].model_copy(update={"thumbnail": thumbnail, "heat": thumbnail})
    write_json(job.evaluation / "test.json", before.model_copy(update={"mistakes": (mistake,)}))
    summary.build(job)
    assert "data:image" not in job.report.read_text(encoding="utf-8")
    assert "no picture" in read(job).words


def test_pictures_stop_where_the_page_would_grow_too_large(workspace_folder: Path) -> None:
    job = make_job(workspace_folder, steps=5, per_class=36, mistakes=3)
    shutil.rmtree(job.thumbnails)
    for path in (job.evaluation / "thumbnails").iterdir():
        path.write_bytes(path.read_bytes() + b"\0" * 90_000)
    summary.build(job)
    assert (
        job.report.read_text(encoding="utf-8").count("data:image/jpeg") == 3
    )  # two mistakes, one with its warm colours
    assert job.report.stat().st_size < 2_000_000


def test_a_page_without_charts_carries_no_chart_library(tmp_path: Path) -> None:
    job = JobFolder(tmp_path / "empty")
    job.path.mkdir()
    summary.build(job)
    assert job.report.stat().st_size < 40_000


def test_two_classes_and_perfect_results(workspace_folder: Path) -> None:
    job = make_job(workspace_folder, classes=("cat", "dog"), per_class=6, mistakes=0)
    whole = Evaluation.read(job.evaluation / "test.json").model_copy(
        update={"confusion": ((6, 0), (0, 6)), "mistakes": (), "reliability": (), "reliability_uncalibrated": ()}
    )
    write_json(job.evaluation / "test.json", whole)
    summary.build(job)
    assert "No image was taken for another class." in read(job).words
