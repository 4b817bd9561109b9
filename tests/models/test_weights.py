"""The cache of weights: what is found, taken in, fetched over HTTP and refused, under the libraries' own names."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from houndsight.errors import HoundsightError, ModelError
from houndsight.models import weights
from houndsight.models.backbones import resolve
from houndsight.models.network import build
from houndsight.spec import ClassifierSpec


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of torch and of timm; the path is torch's."""
    from huggingface_hub import constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torchvision import models

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save({"state_dict": models.squeezenet1_1(weights=None).state_dict()}, path)
    return path


def test_the_folder_is_torch_hubs_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert weights.cache_folder() == Path(torch.hub.get_dir()) / "checkpoints"
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights.cache_folder() == Path(torch.hub.get_dir()) / "checkpoints"


def test_no_weights_names_the_ways_out_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        build(ClassifierSpec(data="x", backbone="squeezenet1_1"), 3)
    for way in (
        "houndsight weights fetch squeezenet1_1",
        "houndsight weights add FILE --name squeezenet1_1",
        "--weights FILE",
        "--weights none",
    ):
        assert way in caught.value.repair
    assert caught.value.repair.count(".") == 1


def test_an_added_file_is_found_by_training_and_by_torchvision(squeezenet: Path, cache: Path) -> None:
    from torchvision import models

    path = weights.add(squeezenet, "squeezenet1_1")
    assert path.parent == cache
    assert path.name == models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    built = build(ClassifierSpec(data="x", backbone="squeezenet1_1", image_size=64), 3)
    assert "added by hand" in built.source
    assert built.loaded == 50
    theirs = models.squeezenet1_1(weights="IMAGENET1K_V1")  # loads from the cache: there is no network here
    assert torch.equal(theirs.features[0].weight, built.network.get_parameter("backbone.features.0.weight"))
    assert [(each.name, each.path) for each in weights.list_weights()] == [("squeezenet1_1", path)]


def test_the_first_release_is_meant_unless_another_is_named(tmp_path: Path) -> None:
    from torchvision import models

    torch.save(models.mobilenet_v2(weights=None).state_dict(), tmp_path / "file.pth")
    assert weights.add(tmp_path / "file.pth", "mobilenet_v2").name == "mobilenet_v2-b0353104.pth"
    assert weights.add(tmp_path / "file.pth", "mobilenet_v2.IMAGENET1K_V2").name == "mobilenet_v2-7ebf99e0.pth"
    assert weights.find("mobilenet_v2").published.tag == "IMAGENET1K_V2"


@pytest.mark.slow
def test_an_added_file_is_found_by_timm(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    state = timm.create_model("test_resnet", pretrained=False).state_dict()
    save_file(state, tmp_path / "file.safetensors")
    weights.add(tmp_path / "file.safetensors", "timm/test_resnet")
    built = build(ClassifierSpec(data="x", backbone="timm/test_resnet"), 3)
    assert built.licence == "apache-2.0"
    code = (
        "import timm, torch, sys; from safetensors.torch import load_file;"
        f"state = load_file({str(tmp_path / 'file.safetensors')!r});"
        "network = timm.create_model('test_resnet', pretrained=True);"
        "sys.exit(not torch.equal(network.conv1[0].weight, state['conv1.0.weight']))"
    )
    settings = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=settings).returncode == 0
    assert sorted({each.name for each in weights.list_weights()}) == [
        "test_resnet.r160_in1k",
        "timm/test_resnet.r160_in1k",
    ]


def test_a_file_that_does_not_fit_is_not_taken(squeezenet: Path, cache: Path) -> None:
    with pytest.raises(ModelError, match="do not fit"):
        weights.add(squeezenet, "squeezenet1_0")
    assert not cache.exists()


def test_a_published_file_is_taken_by_its_own_name(tmp_path: Path, cache: Path) -> None:
    content = b"as it was published"
    mark = hashlib.sha256(content).hexdigest()[:8]
    file = tmp_path / f"resnet50-{mark}.pth"
    file.write_bytes(content)
    assert weights.take(file) == cache / file.name
    assert (cache / file.name).read_bytes() == content
    for name, said in (
        ("resnet50-0676ba61.pth", f"its sha256 begins with {mark}"),
        ("mine.pth", "does not say which network"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=said):
            weights.take(tmp_path / name)
    with pytest.raises(ModelError, match="There is no file"):
        weights.take(tmp_path / "absent-0676ba61.pth")
    assert [each.name for each in cache.iterdir()] == [file.name]


def test_a_name_that_nobody_publishes_weights_for(squeezenet: Path) -> None:
    with pytest.raises(ModelError, match="looks for weights"):
        weights.add(squeezenet, "timm/cspresnet50d")


@pytest.mark.parametrize("name", ["vit_h_14", "timm/convnextv2_atto"])
def test_a_licence_that_forbids_is_refused_unless_named_in_full(name: str) -> None:
    with pytest.raises(ModelError, match="forbids ordinary use") as caught:
        weights.find(name)
    full = caught.value.repair.split()[-1].rstrip(".")
    with pytest.raises(ModelError, match="are not in"):
        weights.find(name + full.removeprefix(name))


def test_forbidden_weights_in_the_cache_are_not_taken_for_others(cache: Path) -> None:
    swag = next(each for each in resolve("vit_b_16").published if "SWAG" in each.tag)
    cache.mkdir(parents=True)
    (cache / swag.file).write_bytes(b"x")
    with pytest.raises(ModelError, match="are not in"):
        weights.find("vit_b_16")
    assert weights.find(f"vit_b_16.{swag.tag}").path.name == swag.file


def test_a_broken_file_in_the_cache(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / resolve("squeezenet1_1").published[0].file).write_bytes(b"\x80\x02 broken")
    with pytest.raises(ModelError):
        build(ClassifierSpec(data="x", backbone="squeezenet1_1"), 3)


# ------------------------------------------------------------------------------------------ download


class Server(BaseHTTPRequestHandler):
    """Sends `content`; `/short` ends early, `/missing` is not there."""

    content = os.urandom(3_000_000)

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: 1_000_000 if self.path == "/short" else None])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_download_whose_hash_is_right(address: str, cache: Path) -> None:
    told: list[tuple[str, int, int]] = []
    target = cache / f"net-{hashlib.sha256(Server.content).hexdigest()[:8]}.pth"
    weights.download(f"{address}/file", target, "net", lambda *step: told.append(step))
    assert target.read_bytes() == Server.content
    assert told[-1] == ("fetch", len(Server.content), len(Server.content))


@pytest.mark.parametrize(
    ("path", "name", "said"),
    [
        ("/file", "net-deadbeef.pth", "its hash begins with"),
        ("/short", "net.pth", "cannot be fetched"),
        ("/missing", "net.pth", "Not Found"),
    ],
)
def test_a_download_that_goes_wrong_leaves_nothing(address: str, cache: Path, path: str, name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        weights.download(f"{address}{path}", cache / name, "net")
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_server_that_is_not_there(cache: Path) -> None:
    with pytest.raises(ModelError, match="cannot be fetched") as caught:
        weights.download("http://127.0.0.1:9/file", cache / "net.pth", "net")
    assert "houndsight weights add FILE --name net" in caught.value.repair


def test_a_read_only_cache(address: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HoundsightError, match="Cannot write"):
        weights.download(f"{address}/file", tmp_path / "file" / "hub" / "net.pth", "net")


def test_fetching_what_is_there_needs_no_network(squeezenet: Path) -> None:
    path = weights.add(squeezenet, "squeezenet1_1")
    assert weights.fetch("squeezenet1_1") == path


def test_listing_needs_no_torch() -> None:
    code = "import sys; from houndsight.models import weights; weights.list_weights(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
