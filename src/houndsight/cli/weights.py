"""`houndsight weights list`, `add` and `fetch`: the cache of pretrained weights."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from houndsight.cli.flags import Json
from houndsight.cli.follow import Bar
from houndsight.cli.output import document, megabytes, say, table
from houndsight.models.weights import cache_folder
from houndsight.verbs import weights as verbs

Backbone = Annotated[str, Parameter(help="Name of the network.")]


def list_(*, json: Json = False) -> None:
    """List the weights at hand: those that `--weights imagenet`, scripts and handlers find without a network."""
    found = verbs.list_weights()
    if json:
        document([{"name": each.name, "path": str(each.path), "bytes": each.size} for each in found])
    elif not found:
        say(f"No weights in {cache_folder()} yet. Get some with: houndsight weights fetch NAME")
    else:
        table(((each.name, megabytes(each.size), str(each.path)) for each in found), ("NAME", "SIZE", "FILE"))


def add(
    file: Annotated[Path, Parameter(help="A .pth or .safetensors file.")],
    /,
    *,
    name: Annotated[
        str | None, Parameter(help="Name of the network; else what the file's own name says, checked by its hash.")
    ] = None,
    json: Json = False,
) -> None:
    """Take a file of weights into the cache, after trying that it fits the network."""
    _tell(name or file.name, verbs.add_weights(file, name), json)


def fetch(name: Backbone, /, *, json: Json = False) -> None:
    """Download the published weights of a network, unless they are at hand."""
    with Bar(sys.stderr) as bar:
        path = verbs.fetch_weights(name, progress=bar.step)
    _tell(name, path, json)


def _tell(name: str, path: Path, json: bool) -> None:
    if json:
        document({"name": name, "path": str(path), "bytes": path.stat().st_size})
    else:
        say(f"{name}: {path}")
