"""What guards the downloads of pretrained weights and `torch.load` in a script's or handler's process; used by `hub`.

torch hub and the Hugging Face client wait for minutes, or try again and again, where there is no network; here the way
is tried once, and what is raised names the file and the ways out. `torch.load` of a whole module says how to trust it.
"""

import functools
import os
import pickle
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from houndsight.scripts.hub import TRUSTED

REACH_SECONDS = 4.0
"""Longest wait for a first sign of a server."""
SILENCE_SECONDS = 30.0
"""Longest wait for a byte of a download that has begun."""


class WeightsNotFoundError(urllib.error.URLError):
    """Pretrained weights that are neither in the cache nor to be had."""

    def __str__(self) -> str:
        return str(self.reason)


WeightsNotFoundError.__module__ = "houndsight"


# ------------------------------------------------------------------------------------------- downloads


def _guard_hub(module: Any) -> None:
    """torch.hub, and who took its functions over before."""
    download, opened = module.download_url_to_file, module.urlopen

    @functools.wraps(download)
    def download_url_to_file(url: str, dst: str, *further: Any, **named: Any) -> Any:
        file = Path(dst)
        why = unreachable(url)
        if why:
            raise _missing(file.name, str(file.parent), why, f"houndsight weights add {file.name}")
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(before or SILENCE_SECONDS)
        try:
            return download(url, dst, *further, **named)
        except OSError as error:
            if file.exists():
                raise
            said = f"{urlsplit(url).hostname} says {error}"
            raise _missing(file.name, str(file.parent), said, f"houndsight weights add {file.name}") from error
        finally:
            socket.setdefaulttimeout(before)

    @functools.wraps(opened)
    def urlopen(request: Any, *further: Any, **named: Any) -> Any:
        url = request if isinstance(request, str) else request.full_url
        if why := unreachable(url):
            raise WeightsNotFoundError(f"torch.hub asks for {url}, but {why}; nothing of it is in {module.get_dir()}.")
        return opened(request, *further, **named)

    module.download_url_to_file, module.urlopen = download_url_to_file, urlopen
    timm: Any = sys.modules.get("timm.models._hub")
    if timm is not None:
        timm.download_url_to_file = download_url_to_file


def _guard_hugging_face(module: Any) -> None:
    """huggingface_hub.file_download: its own client tries five times, 36 s in all."""
    download = module.hf_hub_download

    @functools.wraps(download)
    def hf_hub_download(repo_id: str, filename: str, *further: Any, **named: Any) -> Any:
        constants = module.constants
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else unreachable(named.get("endpoint") or "")
        why = why or unreachable(constants.ENDPOINT)
        if not why:
            return download(repo_id, filename, *further, **named)
        wanted = {name: named[name] for name in ("cache_dir", "revision", "repo_type") if named.get(name)}
        found = module.try_to_load_from_cache(repo_id, filename, **wanted)
        if isinstance(found, str):
            return found
        cache = str(named.get("cache_dir") or constants.HF_HUB_CACHE)
        raise _missing(f"{repo_id}/{filename}", cache, why, f"houndsight weights add FILE --name {repo_id}")

    module.hf_hub_download = hf_hub_download
    for name in ("huggingface_hub", "timm.models._hub"):
        holder: Any = sys.modules.get(name)
        if holder is not None and "hf_hub_download" in vars(holder):
            holder.hf_hub_download = hf_hub_download


def _missing(file: str, cache: str, why: str, add: str) -> WeightsNotFoundError:
    return WeightsNotFoundError(
        f"{file} is not in the weights cache ({cache}), and {why}. Bring the file from elsewhere: `{add}`; or build "
        "the network without pretrained weights."
    )


@functools.cache
def _answers(host: str, port: int) -> str:
    """Why nobody answers there, or nothing; asked once. The search for the name has no time limit of its own."""
    said = [f"{host} does not answer within {REACH_SECONDS:g} s"]

    def ask() -> None:
        try:
            socket.create_connection((host, port), timeout=REACH_SECONDS).close()
        except OSError as error:
            said[0] = f"{host} cannot be reached ({error.strerror or error})"
        else:
            said[0] = ""

    asking = threading.Thread(target=ask, name="reach", daemon=True)
    asking.start()
    asking.join(REACH_SECONDS)
    return said[0]


def unreachable(url: str) -> str:
    """Why the server of an address, or the proxy on the way to it, cannot be reached; nothing where it can."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return _answers(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


# --------------------------------------------------------------------------------------------- pickles


def _guard_load(module: Any) -> None:
    """torch.serialization: `torch.load`, which refuses whole modules since PyTorch 2.6."""
    load = module.load

    @functools.wraps(load)
    def guarded(f: Any, *further: Any, **named: Any) -> Any:
        if named.get("weights_only") is not None:
            return load(f, *further, **named)
        if _trusted(f):
            return load(f, *further, **{**named, "weights_only": False})
        try:
            return load(f, *further, **named)
        except pickle.UnpicklingError as error:
            if "eights only load failed" not in str(error):
                raise
            path = _path(f)
            name = "What is loaded" if path is None else path.name
            raise pickle.UnpicklingError(
                f"{name} holds more than tensors, such as a whole model (torch.save(model)): to load it is to run what "
                "it holds. Where it is yours, say --trust-pickle (trust_pickle=True); or save model.state_dict()."
            ) from None

    module.load = guarded
    torch: Any = sys.modules.get("torch")
    if torch is not None and vars(torch).get("load") is load:
        torch.load = guarded


def _path(file: Any) -> Path | None:
    """The path of what is loaded: a path, or an open file that has one."""
    name = file if isinstance(file, str | os.PathLike) else getattr(file, "name", None)
    with suppress(TypeError, ValueError, OSError):
        return Path(name).resolve() if isinstance(name, str | os.PathLike) else None
    return None


def _trusted(file: Any) -> bool:
    folders = [Path(each).resolve() for each in os.environ.get(TRUSTED, "").split(os.pathsep) if each]
    path = _path(file)
    return path is not None and any(path.is_relative_to(each) for each in folders)


GUARDS: dict[str, Callable[[Any], None]] = {
    "torch.hub": _guard_hub,
    "torch.serialization": _guard_load,
    "huggingface_hub.file_download": _guard_hugging_face,
}
"""Module -> what is done to it once it is there."""
