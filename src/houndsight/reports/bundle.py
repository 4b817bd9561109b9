"""The chart library as one script, kept between reports, and the policy that lets it and nothing else run."""

import base64
import hashlib
import os
import re
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock, Thread, get_native_id

from houndsight.errors import HoundsightError
from houndsight.folders import JobFolder
from houndsight.workspace import Workspace, atomic_write, friendly_disk_errors

_ONE = Lock()  # whoever comes second reads what the first has made


def policy(*scripts: str) -> str:
    """A Content-Security-Policy that forbids every request and every script but these."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    rules = (
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join([*rules, f"script-src {hashes}"])


def cache_of(job: JobFolder) -> Path | None:
    """Where the chart library is kept between reports; None for a job outside any workspace."""
    jobs = job.path.absolute().parent
    workspace = Workspace(jobs.parent)
    return workspace.cache / "report" if jobs == workspace.jobs else None


def make_ahead(job: JobFolder) -> None:
    """Make the chart library beside the job where no earlier one has, on a core that would be idle."""
    folder = cache_of(job)
    if folder is not None and not _place(folder).is_file():
        Thread(target=_made_when_idle, args=(folder,), name="houndsight-charts").start()


def _made_when_idle(folder: Path) -> None:
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, get_native_id(), 10)
    with suppress(HoundsightError):  # the report meets and tells it
        bundle(folder)


@cache
def bundle(folder: Path | None) -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, 0.9 MB, kept in `folder` where there is one."""
    with _ONE:
        if folder is None:
            return _made()
        kept = _place(folder)
        if kept.is_file():
            return kept.read_text(encoding="utf-8")
        text = _made()
        with friendly_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as file:
            file.write(text.encode())
        return text


def _place(folder: Path) -> Path:
    return folder / f"vega-{re.sub(r'[^0-9A-Za-z.]', '', version('vl-convert-python'))}.js"


@cache
def _made() -> str:
    """The same, newly made, which takes 1.3 s where reading it takes 2 ms."""
    import vl_convert

    text = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    return text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")
