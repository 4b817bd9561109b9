"""What the debugger takes is what truly happened: in every way in which people write their training loops."""

# mypy: disable-error-code="no-untyped-call"

import copy
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import houndsight
from houndsight.errors import SpecError
from houndsight.records.facts import read_facts
from houndsight.records.tensors import TensorRecords
from houndsight.verbs.debug import LoopJob
from houndsight.watch.plan import DebugSpec, Schedule

IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
POINTS = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(8) % 4


def mlp(seed: int = 0, activation: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, 32), activation or nn.ReLU(), nn.Linear(32, 4))


def watch(tmp_path: Path, models: Any, optimizers: Any, **settings: Any) -> LoopJob:
    given: dict[str, Any] = {"interval": 1, "rules": ["none"], "strict": True, "workspace": tmp_path, "name": "loop"}
    return houndsight.debug(models, optimizers, **(given | settings))


def records(tmp_path: Path) -> TensorRecords:
    return TensorRecords(tmp_path / "jobs" / "loop" / "records")


def taken(tmp_path: Path, tensor: str, statistic: str, mode: str = "train") -> list[float]:
    return [float(value) for value in records(tmp_path).curve(tensor, statistic, mode)[1]]


def weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def bias(layer: nn.Module) -> Tensor:
    assert isinstance(layer.bias, Tensor)
    return layer.bias


def norm(tensor: Tensor | None) -> float:
    assert tensor is not None
    return float(tensor.detach().float().norm())


def test_weights_gradients_and_updates_are_the_true_ones(tmp_path: Path) -> None:
    net = mlp()
    moved = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    expected: list[tuple[float, float, float]] = []
    with watch(tmp_path, net, moved):
        for _ in range(3):
            moved.zero_grad()
            functional.cross_entropy(net(POINTS), LABELS).backward()
            before, gradient = weight(net[0]).detach().clone(), norm(weight(net[0]).grad)
            moved.step()
            expected.append((norm(before), gradient, norm(weight(net[0]) - before)))
    for place, kind in enumerate(("weight", "gradient", "update")):
        assert taken(tmp_path, f"{kind}/0.weight", "l2") == pytest.approx([each[place] for each in expected], rel=1e-4)
    whole = records(tmp_path).at(2)
    assert whole["distance/0.weight"]["l2"] > whole["update/0.weight"]["l2"]


def test_statistics_of_small_tensors_are_exact(tmp_path: Path) -> None:
    net = mlp()
    values = weight(net[0]).detach().clone()
    values[0] = 0
    weight(net[0]).data.copy_(values)
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(tmp_path, net, moved):
        functional.cross_entropy(net(POINTS), LABELS).backward()
        moved.step()
    found = records(tmp_path).at(0)["weight/0.weight"]
    assert found["mean"] == pytest.approx(float(values.mean()), rel=1e-4)
    assert found["std"] == pytest.approx(float(values.std(correction=0)), rel=1e-4)
    assert (found["min"], found["max"]) == (float(values.min()), float(values.max()))
    assert found["l1"] == pytest.approx(float(values.abs().sum()), rel=1e-4)
    assert found["zeros"] == pytest.approx(1 / 32)
    assert found["p50"] == pytest.approx(float(values.median()), abs=0.01)
    assert found["nonfinite"] == 0


def test_a_sample_of_a_large_tensor_tells_its_distribution() -> None:
    from houndsight.watch.statistics import COLUMNS, Panel, norms

    large = torch.randn(700, 900, generator=torch.Generator().manual_seed(2)) + 1
    large[:, ::10] = 0  # a pattern that a plain stride would fall in with
    panel = Panel([large.numel()], 4096)
    row = panel.statistics(panel.gather([large], large.device), norms([large], large.device), quantiles=True)[0]
    assert float(row[COLUMNS["l2"]]) == pytest.approx(norm(large), rel=1e-5)
    assert float(row[COLUMNS["mean"]]) == pytest.approx(0.9, abs=0.05)
    assert float(row[COLUMNS["zeros"]]) == pytest.approx(0.1, abs=0.02)
    assert float(row[COLUMNS["l1"]]) == pytest.approx(float(large.abs().sum()), rel=0.05)
    large[3, 4] = float("nan")
    row = panel.statistics(panel.gather([large], large.device), norms([large], large.device), quantiles=False)[0]
    assert 0 < float(row[COLUMNS["nonfinite"]]) < 1e-4  # the sample misses it, the norm does not


def test_exact_statistics_where_they_are_asked_for(tmp_path: Path) -> None:
    net = nn.Linear(200, 100)
    net.weight.data[7, 11] = 99.0
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(tmp_path, net, moved, exact=True):
        net(torch.randn(2, 200)).sum().backward()
        moved.step()
    assert records(tmp_path).at(0)["weight/weight"]["max"] == 99.0


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        out = self.relu(self.norm(self.conv(images)))
        out = self.norm(self.conv(out))
        out += images
        out = self.relu(out)
        logits: Tensor = self.fc(out.mean((2, 3)))
        return logits


def test_in_place_activations_and_a_module_used_twice(tmp_path: Path) -> None:
    net = Residual()
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(tmp_path, net, moved):
        functional.cross_entropy(net(IMAGES), LABELS).backward()
        moved.step()
    found = records(tmp_path).at(0)
    assert found["input/relu"]["min"] < 0  # taken before the activation overwrote it
    assert found["input/relu#2"]["min"] < 0
    assert found["input/relu"]["mean"] != found["input/relu#2"]["mean"]
    assert found["inputs"]["mean"] == pytest.approx(float(IMAGES.mean()), rel=1e-3)
    assert found["inputs/2"]["mean"] == pytest.approx(float(IMAGES[:, 2].mean()), rel=1e-3)
    assert {"buffer/norm.running_mean", "buffer/norm.running_var"} <= set(found)


def test_dead_and_saturated_units(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 4))
    bias(net[0]).data[:3] = -100.0
    bias(net[2]).data[:4] = 50.0
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(tmp_path, net, moved):
        functional.cross_entropy(net(POINTS), LABELS).backward()
        moved.step()
    found = records(tmp_path).at(0)
    assert found["input/1"]["dead"] >= 0.3
    assert found["input/3"]["saturated"] == pytest.approx(0.5, abs=0.1)


def test_accumulated_and_clipped_gradients(tmp_path: Path) -> None:
    net = mlp()
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(tmp_path, net, moved):
        for part in (slice(0, 4), slice(4, 8)):
            (functional.cross_entropy(net(POINTS[part]), LABELS[part]) / 2).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.01)
        clipped = norm(weight(net[2]).grad)
        moved.step()
    assert records(tmp_path).steps().tolist() == [0]
    assert taken(tmp_path, "gradient/2.weight", "l2") == pytest.approx([clipped], rel=1e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_unscaled(tmp_path: Path, fused: bool) -> None:
    net, plain = mlp(), mlp()
    functional.cross_entropy(plain(POINTS), LABELS).backward()
    moved = torch.optim.SGD(net.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    with watch(tmp_path, net, moved, scaler=scaler):
        scaler.scale(functional.cross_entropy(net(POINTS), LABELS)).backward()
        scaler.step(moved)
        scaler.update()
    assert taken(tmp_path, "gradient/0.weight", "l2") == pytest.approx([norm(weight(plain[0]).grad)], rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models(tmp_path: Path, dtype: torch.dtype) -> None:
    net = mlp().to(dtype)
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(tmp_path, net, moved):
        functional.cross_entropy(net(POINTS.to(dtype)), LABELS).backward()
        expected = norm(weight(net[0]).grad)
        moved.step()
    assert taken(tmp_path, "gradient/0.weight", "l2") == pytest.approx([expected], rel=1e-2)
    assert "input/1" in records(tmp_path).at(0)


def test_autocast(tmp_path: Path) -> None:
    net = mlp()
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(tmp_path, net, moved), torch.autocast("cpu", dtype=torch.bfloat16):
        functional.cross_entropy(net(POINTS), LABELS).backward()
        moved.step()
    assert records(tmp_path).at(0)["outputs"]["std"] > 0


def test_frozen_layers_and_layers_without_a_gradient(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    net.add_module("unused", nn.Linear(4, 4))
    net[0].requires_grad_(False)
    moved = torch.optim.SGD([each for each in net.parameters() if each.requires_grad], lr=0.1)
    with watch(tmp_path, net, moved):
        functional.cross_entropy(net[2](net[1](net[0](POINTS))), LABELS).backward()
        moved.step()
    found = records(tmp_path).at(0)
    assert "gradient/2.weight" in found
    assert "weight/unused.weight" in found
    assert not {"weight/0.weight", "gradient/0.weight", "gradient/unused.weight"} & set(found)
    facts = {each["name"]: each for each in read_facts(tmp_path / "jobs" / "loop" / "records")["parameters"]}
    assert facts["0.weight"]["trainable"] is False
    assert facts["0.weight"]["in_optimizer"] is False


def test_a_parameter_that_the_optimizer_misses_is_watched_all_the_same(tmp_path: Path) -> None:
    net = mlp()
    moved = torch.optim.SGD(net[2].parameters(), lr=0.1)
    with watch(tmp_path, net, moved):
        functional.cross_entropy(net(POINTS), LABELS).backward()
        moved.step()
    assert records(tmp_path).at(0)["gradient/0.weight"]["l2"] > 0
    assert records(tmp_path).at(0)["update/0.weight"]["l2"] == 0
    facts = {each["name"]: each for each in read_facts(tmp_path / "jobs" / "loop" / "records")["parameters"]}
    assert facts["0.weight"]["trainable"]
    assert not facts["0.weight"]["in_optimizer"]


def test_two_models_of_one_class_and_two_optimizers(tmp_path: Path) -> None:
    teacher, student = mlp(1), mlp(2)
    one = torch.optim.SGD(teacher.parameters(), lr=0.1)
    two = torch.optim.SGD(student.parameters(), lr=0.5)
    with watch(tmp_path, [teacher, student], [one, two]):
        for _ in range(2):
            for net, moved in ((teacher, one), (student, two)):
                moved.zero_grad()
                functional.cross_entropy(net(POINTS), LABELS).backward()
                moved.step()
    assert records(tmp_path).steps().tolist() == [0, 1]
    found = records(tmp_path).at(1)
    assert found["weight/0.0.weight"]["l2"] != found["weight/1.0.weight"]["l2"]
    assert {"gradient/0.2.bias", "gradient/1.2.bias", "input/0.1", "input/1.1"} <= set(found)


def test_an_optimizer_that_steps_more_often_than_the_other(tmp_path: Path) -> None:
    net = mlp()
    critic, actor = torch.optim.SGD(net[0].parameters(), lr=0.1), torch.optim.SGD(net[2].parameters(), lr=0.1)
    with watch(tmp_path, net, [critic, actor]):
        for moved in (critic, critic, actor, critic, critic, actor):
            net.zero_grad()
            functional.cross_entropy(net(POINTS), LABELS).backward()
            moved.step()
    assert records(tmp_path).steps().tolist() == [0, 1, 2, 3]
    assert records(tmp_path).steps("update/2.weight").tolist() == [1, 3]


def test_a_compiled_network_is_not_touched(tmp_path: Path) -> None:
    counted: list[int] = []

    def backend(graph: Any, _inputs: Any) -> Callable[..., Any]:
        counted.append(1)
        forward: Callable[..., Any] = graph.forward
        return forward

    net = mlp()
    fast = torch.compile(net, backend=backend)
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(tmp_path, fast, moved):
        for _ in range(3):
            moved.zero_grad()
            functional.cross_entropy(fast(POINTS), LABELS).backward()
            moved.step()
    assert counted == [1]  # one graph, compiled once
    found = records(tmp_path).at(2)
    assert {"weight/0.weight", "gradient/0.weight", "update/0.weight"} <= set(found)
    assert not [name for name in found if name.startswith("input/")]
    assert read_facts(tmp_path / "jobs" / "loop" / "records")["compiled"] is True


@pytest.mark.parametrize("module", [False, True])
def test_losses_are_heard_as_functions_and_as_modules(tmp_path: Path, module: bool) -> None:
    net, heard = mlp(), list[float]()
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1) if module else functional.cross_entropy
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    before = functional.cross_entropy
    with watch(tmp_path, net, moved) as dbg:
        for _ in range(3):
            moved.zero_grad()
            if not module:
                loss_of = functional.cross_entropy  # taken inside the block, as a loop does
            loss = loss_of(net(POINTS), LABELS)
            loss.backward()
            moved.step()
            heard.append(loss.item())
        with torch.no_grad():
            loss_of(net(POINTS), LABELS)
    assert functional.cross_entropy is before
    job = houndsight.open_job(dbg.name, workspace=tmp_path)
    assert list(job.records.curve("loss")[1]) == pytest.approx(heard)
    assert list(job.records.curve("lr")[1]) == pytest.approx([0.1] * 3)
    assert len(job.records.curve("loss", "valid")[1]) == 1
    facts = read_facts(job.files.records)
    assert (facts["loss"], facts["num_classes"], facts["batch_size"]) == ("cross_entropy", 4, 8)


def test_a_loss_of_ones_own(tmp_path: Path) -> None:
    net = mlp()
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(tmp_path, net, moved) as dbg:
        loss = (net(POINTS) ** 2).sum()
        loss.backward()
        dbg.loss(loss)
        moved.step()
    assert list(houndsight.open_job("loop", workspace=tmp_path).records.curve("loss")[1]) == [
        pytest.approx(loss.item(), rel=1e-6)
    ]


def test_modes_count_their_own_steps_and_have_schedules(tmp_path: Path) -> None:
    net = mlp()
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    settings = {"interval": 2, "start": 1, "modes": {"eval": {"interval": 3}, "predict": {"steps": [1], "end": 0}}}
    with watch(tmp_path, net, moved, **settings) as dbg:
        for _ in range(7):
            dbg.mode("train")
            moved.zero_grad()
            functional.cross_entropy(net(POINTS), LABELS).backward()
            moved.step()
            dbg.mode("eval")
            with torch.no_grad():
                net(POINTS)
        dbg.mode("predict")
        for _ in range(3):
            net(POINTS)
    found = records(tmp_path)
    assert found.steps().tolist() == [2, 4, 6]
    assert found.steps(mode="valid").tolist() == [0, 3, 6]
    assert found.steps(mode="predict").tolist() == [1]
    assert set(found.at(3, "valid")) == {"inputs", "input/1", "outputs"}
    with pytest.raises(SpecError, match="no mode 'training'"):
        dbg.mode("training")


def test_collections_raw_tensors_and_what_is_left_out(tmp_path: Path) -> None:
    import safetensors.torch

    net = mlp()
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    collections = {"head": {"include": ["gradient/2"], "raw": True}, "last": {"modules": ["^2$"]}}
    with watch(tmp_path, net, moved, collections=collections, leave_out=["bias"]):
        functional.cross_entropy(net(POINTS), LABELS).backward()
        gradient = weight(net[2]).grad
        assert gradient is not None
        moved.step()
    found = records(tmp_path)
    assert not found.names("bias")
    assert {"input/2", "output/2"} <= set(found.names())
    raw = safetensors.torch.load_file(tmp_path / "jobs/loop/records/raw/train-000000000.safetensors")
    assert torch.equal(raw["gradient/2.weight"], gradient)
    with pytest.raises(SpecError, match="interval"):
        watch(tmp_path, net, moved, interval=0)


def test_copies_and_pickles_of_the_network_carry_nothing_along(tmp_path: Path) -> None:
    net = mlp()
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(tmp_path, net, moved):
        average = copy.deepcopy(net)
        torch.save(net, tmp_path / "whole.pt")
        again = torch.load(tmp_path / "whole.pt", weights_only=False)
        for other in (average, again):
            other(torch.full((2, 16), 7.0))  # in training mode, and yet no pass of the training
        functional.cross_entropy(net(POINTS), LABELS).backward()
        moved.step()
    assert b"houndsight" not in (tmp_path / "whole.pt").read_bytes()
    assert taken(tmp_path, "inputs", "max") == [float(POINTS.max())]
    assert not records(tmp_path).names("#2")


def test_an_exception_in_the_loop(tmp_path: Path) -> None:
    net = mlp()
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    before = functional.cross_entropy
    with pytest.raises(ZeroDivisionError), watch(tmp_path, net, moved):  # noqa: PT012 - a loop is what it is
        functional.cross_entropy(net(POINTS), LABELS).backward()
        moved.step()
        1 / 0  # noqa: B018
    job = houndsight.open_job("loop", workspace=tmp_path)
    assert (job.state, job.status.reason) == ("FAILED", "ZeroDivisionError: division by zero")
    assert records(tmp_path).steps().tolist() == [0]
    assert functional.cross_entropy is before
    assert not hooks(net, moved)


def hooks(net: nn.Module, moved: torch.optim.Optimizer) -> int:
    count = len(moved._optimizer_step_pre_hooks) + len(moved._optimizer_step_post_hooks)
    return count + sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in net.modules())


def test_weights_are_the_same_with_and_without(tmp_path: Path) -> None:
    found = []
    for watched in (False, True):
        net = mlp(activation=nn.Sequential(nn.Dropout(0.5), nn.ReLU()))
        moved = torch.optim.Adam(net.parameters(), lr=0.1)

        def train(net: nn.Module = net, moved: torch.optim.Optimizer = moved) -> None:
            for _ in range(10):
                moved.zero_grad()
                functional.cross_entropy(net(POINTS), LABELS).backward()
                moved.step()

        if watched:
            with watch(tmp_path, net, moved):
                train()
        else:
            train()
        found.append(copy.deepcopy(net.state_dict()))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_mistake_of_the_debugger_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from houndsight.watch.parameters import Parameters

    def broken(self: Parameters, *_: object, **__: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(Parameters, "before", broken)
    net = mlp()
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    with caplog.at_level(logging.INFO, "houndsight"), watch(tmp_path, net, moved, strict=False):
        for _ in range(3):
            functional.cross_entropy(net(POINTS), LABELS).backward()
            moved.step()
    assert "planted" in caplog.text
    assert "RuntimeError: planted" in read_facts(tmp_path / "jobs" / "loop" / "records")["debugger"]["broken"]
    with pytest.raises(RuntimeError, match="planted"), watch(tmp_path, net, moved, name="strict"):
        moved.step()


def test_a_thousand_rounds_leave_nothing_behind(tmp_path: Path) -> None:
    from houndsight.watch.debugger import Debugger

    net = mlp()
    moved = torch.optim.SGD(net.parameters(), lr=0.1)
    functional.cross_entropy(net(POINTS), LABELS).backward()

    def rounds(count: int) -> Iterator[weakref.ref[Debugger]]:
        for _ in range(count):
            debugger = Debugger(tmp_path, strict=True, worker=1)  # only the first worker writes facts to the disk
            debugger.attach([net], [moved])
            debugger.detach()
            debugger.outlet.close()
            yield weakref.ref(debugger)

    known = [*rounds(20)]
    gc.collect()
    before = len(gc.get_objects())
    known += rounds(1000)
    gc.collect()
    assert not hooks(net, moved)
    assert not [each for each in known if each() is not None]
    assert len(gc.get_objects()) - before < 3000  # the list of references itself
    dropped = Debugger(tmp_path)
    dropped.attach([net], [moved])
    gone = weakref.ref(dropped)
    dropped.outlet.close()
    del dropped
    gc.collect()
    assert gone() is None  # hooks hold no debugger that nobody else holds
    moved.step()


DISTRIBUTED = """
import sys, torch, houndsight
from pathlib import Path
from torch import distributed, nn
from torch.nn import functional
rank, store, place = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
net = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)))
moved = torch.optim.SGD(net.parameters(), lr=0.1)
points = torch.randn(8, 16, generator=torch.Generator().manual_seed(rank))
with houndsight.debug(net, moved, workspace=place, name="loop", interval=1, strict=True) as dbg:
    for _ in range(3):
        moved.zero_grad()
        functional.cross_entropy(net(points), torch.arange(8) % 4).backward()
        moved.step()
assert bool(dbg.findings) == (rank == 0)
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_of_one_training(tmp_path: Path) -> None:
    import subprocess
    import sys

    run = [sys.executable, "-c", DISTRIBUTED]
    workers = [
        subprocess.Popen([*run, str(rank), str(tmp_path / "store"), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    said = [each.communicate()[1] for each in workers]
    assert [each.returncode for each in workers] == [0, 0], said
    first, second = (TensorRecords(tmp_path / "jobs" / "loop" / "records", worker=rank) for rank in (0, 1))
    assert first.steps().tolist() == second.steps().tolist() == [0, 1, 2]
    here, there = first.at(1), second.at(1)
    assert here["gradient/0.weight"]["l2"] == pytest.approx(there["gradient/0.weight"]["l2"], rel=1e-5)  # averaged
    assert here["inputs"]["mean"] != there["inputs"]["mean"]
    assert len(houndsight.open_job("loop", workspace=tmp_path).records.curve("loss")[0]) == 3


def test_the_noise_of_the_gradient(tmp_path: Path) -> None:
    """Linear regression on noisy targets: the gradient of a batch has a known mean and spread."""
    from houndsight.records.rules.engine import Engine
    from houndsight.records.tensors import STATISTICS
    from houndsight.watch.debugger import Debugger

    generator = torch.Generator().manual_seed(3)
    net = nn.Linear(8, 1, bias=False)
    net.weight.data.zero_()
    moved = torch.optim.SGD(net.parameters(), lr=1e-9)
    engine = Engine({}, ["none"], statistics=STATISTICS)
    debugger = Debugger(tmp_path, DebugSpec(schedule=Schedule(interval=1)), rules=lambda _: engine, strict=True)
    debugger.batch_size = 16
    debugger.attach([net], [moved])
    for _ in range(200):
        moved.zero_grad()
        points = torch.randn(16, 8, generator=generator)
        targets = points @ torch.full((8, 1), 0.5) + torch.randn(16, 1, generator=generator)
        ((net(points) - targets) ** 2).mean().backward()
        moved.step()
    debugger.close()
    small, large = (engine.history.scalar(f"gradient_square_{each}")[1].mean() for each in ("small", "large"))
    signal, noise = 2 * large - small, (small - large) / (1 / 16 - 1 / 32)
    # The gradient of one image is -2 x (x.w + e): its mean is -2 w with a square of 4 |w|^2 = 8, and its mean square
    # 4 E[|x|^2 (x.w + e)^2] = 4 ((8 + 2) |w|^2 + 8) = 112 for |w|^2 = 2; the trace of the covariance is 112 - 8.
    assert signal == pytest.approx(8, rel=0.25)
    assert noise == pytest.approx(104, rel=0.25)


def test_the_governor_keeps_its_budget() -> None:
    from houndsight.watch.governor import Governor

    governor, now, saved = Governor(DebugSpec(budget=0.01)), 0.0, list[int]()
    level = governor.level(0)
    for step in range(4000):
        if level:
            saved.append(step)
            now += 0.012
            governor.own += 0.012
        now += 0.1
        if level or governor.tick():
            governor.close_step(now, level=level)
            level = governor.level(step + 1)
    assert saved[:5] == [0, 1, 2, 3, 4]
    assert 0.005 < governor.overhead <= 0.0105
    assert governor.steps == 4000
    assert {each % 20 for each in saved[5:]} == {0}
    assert len(saved) > 100
