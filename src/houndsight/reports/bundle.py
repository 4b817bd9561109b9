"""The chart library as one script, kept between reports, and the policy that lets it and nothing else run."""

import base64
import hashlib
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

from houndsight.folders import JobFolder
from houndsight.workspace import Workspace, atomic_write, friendly_disk_errors


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


@cache
def bundle(folder: Path | None) -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, 0.9 MB, kept in `folder` where there is one."""
    release = re.sub(r"[^0-9A-Za-z.]", "", version("vl-convert-python"))
    kept = folder / f"vega-{release}.js" if folder else None
    if kept is not None and kept.is_file():
        return kept.read_text(encoding="utf-8")
    text = _made()
    if kept is not None:
        with friendly_disk_errors(kept.parent):
            kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as file:
            file.write(text.encode())
    return text


@cache
def _made() -> str:
    """The same, newly made, which takes 1.3 s where reading it takes 2 ms."""
    import vl_convert

    text = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    return text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")
