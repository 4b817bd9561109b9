"""The page in a real browser: charts drawn, no word on the console, no request for anything but itself."""

import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from houndsight.folders import JobFolder
from houndsight.reports import summary

from .factory import make_job
from .test_html import HOSTILE, Reader

pytestmark = pytest.mark.browser

QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=10000 --enable-logging=stderr"
).split()


@dataclass
class Seen:
    """What was there after the page had done its work."""

    dom: str
    console: list[str]
    requested: set[str]


def look(page: Path, scratch: Path, *, width: int = 1280, dark: bool = False) -> Seen:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Debian's chromium is not installed: apt-get install chromium")
    net = scratch / "net.json"
    done = subprocess.run(
        [
            chromium,
            *QUIET,
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--user-data-dir={scratch / 'profile'}",
            f"--log-net-log={net}",
            f"--window-size={width},1000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Seen(dom=done.stdout, console=console, requested=_requested(net))


def _requested(net: Path) -> set[str]:
    """The addresses that pages asked for; the browser's own errands have no page as their initiator."""
    document = json.loads(net.read_text())
    asked = (event.get("params", {}) for event in document["events"])
    return {
        each["url"] for each in asked if "url" in each and each.get("initiator", "not an origin") != "not an origin"
    }


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_draws_its_charts_in_silence(finished: JobFolder, tmp_path: Path, width: int, dark: bool) -> None:
    seen = look(finished.report, tmp_path, width=width, dark=dark)
    assert seen.console == []
    assert seen.requested == set()
    sizes = re.findall(r'<svg[^>]*class="marks" width="(\d+)" height="(\d+)"', seen.dom)
    assert len(sizes) == 11
    assert seen.dom.count("data-map=") == 5
    assert all(int(across) > 200 and int(down) > 100 for across, down in sizes)
    assert "NaN" not in "".join(re.findall(r' d="[^"]*"', seen.dom))


MAPS = """
<script>
(async () => {
  const wait = () => new Promise((done) => setTimeout(done, 100));
  while (document.querySelectorAll("svg.marks").length !== 11) await wait();
  const canvas = document.querySelector("[data-map=map-gradient-norm]");
  const read = () => canvas.parentNode.querySelector(".readout").textContent;
  const ink = canvas.getContext("2d"), colours = new Set();
  for (let x = canvas.width >> 1; x < canvas.width - 4; x += 7) {
    for (let y = 4; y < canvas.height >> 1; y += 9) colours.add(ink.getImageData(x, y, 1, 1).data.join());
  }
  canvas.focus();
  const seen = { colours: colours.size, calm: read() };
  for (const key of ["ArrowRight", "ArrowDown"]) canvas.dispatchEvent(new KeyboardEvent("keydown", { key }));
  seen.said = read();
  document.title = "maps " + JSON.stringify(seen);
})();
</script></body>
"""


def test_a_map_is_drawn_and_read_by_keyboard(finished: JobFolder, tmp_path: Path) -> None:
    text = finished.report.read_text(encoding="utf-8")
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    page = tmp_path / "maps.html"
    page.write_text(without_policy.removesuffix("</body>\n</html>") + MAPS, encoding="utf-8")
    seen = json.loads(html.unescape(re.findall(r"<title>maps (.*?)</title>", look(page, tmp_path).dom)[0]))
    assert seen["colours"] > 20
    assert seen["calm"].startswith("Length of the gradient")
    assert re.match(r"block1\.weight, step \d+: about 0\.\d+", seen["said"])


def test_a_request_and_a_word_on_the_console_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><img src='http://127.0.0.1:9/a.png'><script>console.error('heard')</script>")
    seen = look(page, tmp_path)
    assert seen.requested == {"http://127.0.0.1:9/a.png"}
    assert "heard" in seen.console[0]


WORK = """
<script>
const drawn = () => document.querySelectorAll("svg.marks").length === 11;
const axis = (id) => document.querySelector(`#${id} svg .role-axis-label`);
const ticks = (id) => [...axis(id).children].map((each) => each.textContent).sort();
const press = (selector) => document.querySelector(selector).click();
const recalls = () => [...document.querySelectorAll("#classes tbody tr")].map((row) => +row.cells[1].dataset.value);
const wait = () => new Promise((done) => setTimeout(done, 100));
(async () => {
  while (!drawn()) await wait();
  const seen = { whole: [ticks("curve-0"), ticks("curve-1"), ticks("confusion")] };
  press("#curve-0 [data-zoom=in]"); press("#confusion [data-zoom=in]"); await wait();
  seen.closer = [ticks("curve-0"), ticks("curve-1"), ticks("confusion")];
  press("#curve-0 [data-zoom=reset]"); press("#confusion [data-zoom=reset]"); await wait();
  seen.reset = [ticks("curve-0"), ticks("curve-1"), ticks("confusion")];
  seen.up = recalls(); press("#classes thead th:nth-child(2) button"); seen.down = recalls();
  seen.arrow = document.querySelector("#classes thead th:nth-child(2)").getAttribute("aria-sort");
  document.title = JSON.stringify(seen);
})();
</script></body>
"""


def test_zooming_moves_all_curves_and_headings_sort(finished: JobFolder, tmp_path: Path) -> None:
    text = finished.report.read_text(encoding="utf-8")
    page = tmp_path / "worked.html"
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    page.write_text(without_policy.removesuffix("</body>\n</html>") + WORK, encoding="utf-8")
    titles = re.findall(r"<title>(.*?)</title>", look(page, tmp_path).dom)
    seen = json.loads(html.unescape(titles[0]))
    assert seen["closer"][0] == seen["closer"][1] != seen["whole"][0]
    assert seen["closer"][2] != seen["whole"][2]
    assert seen["reset"] == seen["whole"]
    assert seen["up"] == sorted(seen["up"])
    assert seen["down"] == sorted(seen["down"], reverse=True)
    assert seen["arrow"] == "descending"


AXE = """
<script>
(async () => {
  while (document.querySelectorAll("svg.marks").length !== 11) await new Promise((done) => setTimeout(done, 100));
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  const found = await axe.run(document, { resultTypes: ["violations"] });
  const serious = found.violations.filter((each) => ["serious", "critical"].includes(each.impact));
  document.title = "axe " + JSON.stringify([found.passes.length, serious.map((each) => each.id)]);
})();
</script></body>
"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_axe_finds_nothing_serious(finished: JobFolder, tmp_path: Path, width: int, dark: bool) -> None:
    library = Path(os.environ.get("HOUNDSIGHT_AXE", ""))
    if not library.is_file():
        pytest.skip("HOUNDSIGHT_AXE is to name axe.min.js: npm pack axe-core")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", finished.report.read_text(encoding="utf-8"))
    page = tmp_path / "axe.html"
    script = f"<script>{library.read_text(encoding='utf-8')}</script>"
    page.write_text(text.removesuffix("</body>\n</html>") + script + AXE, encoding="utf-8")
    dom = look(page, tmp_path, width=width, dark=dark).dom
    passed, serious = json.loads(html.unescape(re.findall(r"<title>axe (.*?)</title>", dom)[0]))
    assert passed > 20
    assert serious == []


@pytest.mark.slow
def test_a_page_of_133_classes_draws_too(many: JobFolder, tmp_path: Path) -> None:
    seen = look(many.report, tmp_path)
    assert seen.console == []
    assert seen.dom.count('class="marks"') == 11


@pytest.mark.slow
def test_hostile_names_do_nothing(tmp_path: Path) -> None:
    job = make_job(tmp_path / "runs", classes=HOSTILE, per_class=6)
    summary.build(job)
    seen = look(job.report, tmp_path)
    assert seen.console == []
    assert seen.requested == set()
    page = Reader(seen.dom)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all((attributes["src"] or "").startswith("data:") for tag, attributes in page.tags if tag == "img")
    assert seen.dom.count('class="marks"') == 11


@pytest.mark.slow
def test_a_running_job_and_an_empty_folder_are_silent_too(tmp_path: Path) -> None:
    empty = JobFolder(tmp_path / "empty")
    empty.path.mkdir()
    for job in (make_job(tmp_path / "runs", state="RUNNING", steps=3), empty):
        summary.build(job)
        scratch = tmp_path / f"scratch-{job.name}"
        scratch.mkdir()
        assert look(job.report, scratch).console == []
