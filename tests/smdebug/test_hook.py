"""What a hook saves of a training: names, steps and values; and that it never disturbs the training."""

import copy
import io
import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from houndsight.scripts.hookconfig import HookConfig, read
from houndsight.scripts.smdebug_config import Collection, ReductionConfig, SaveConfig, SaveConfigMode
from houndsight.scripts.smdebug_errors import ModeKeys, SMDebugTypeError, SMDebugValueError, TensorUnavailableForStep
from houndsight.scripts.smdebug_hook import Hook, get_hook, wrap_optimizer
from houndsight.scripts.smdebug_sources import create_trial
from houndsight.scripts.smdebug_trial import Trial
from houndsight.watch import losses

from .conftest import Net, batch, fit

TRAIN, EVAL, GLOBAL = ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.GLOBAL


def every(**more: Any) -> dict[str, Any]:
    return {"save_config": SaveConfig(save_interval=1), **more}


def closed(hook: Hook) -> Trial:
    hook.close()
    assert hook.out_dir is not None
    return create_trial(hook.out_dir)


def test_an_input_is_saved_as_it_was_before_the_activation_worked_in_place(out: Path) -> None:
    model, hook = Net(), Hook(out, **every(include_regex=["relu_", "conv_output"]))
    hook.register_hook(model)
    fit(model, 1)
    trial = closed(hook)
    assert trial.tensor_names(collection="default") == ["conv_output_0", "relu_input_0", "relu_output_0"]
    given, made = trial.tensor("relu_input_0").value(0), trial.tensor("relu_output_0").value(0)
    assert given.min() < 0  # smdebug of the package index reads it behind the module: no less than 0
    assert np.array_equal(np.maximum(given, 0), made)
    assert np.array_equal(trial.tensor("conv_output_0").value(0), given)


def test_gradients_are_those_of_the_step_accumulated_and_unscaled(out: Path) -> None:
    model = Net()
    hook = Hook(out, **every(include_collections=["gradients"]))
    hook.register_hook(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    for step in range(2):
        for part in range(2):
            images, labels = batch(10 * step + part)
            (nn.functional.cross_entropy(model(images), labels) * 65536 / 2).backward()  # type: ignore[no-untyped-call]
        for each in model.parameters():
            assert each.grad is not None
            each.grad /= 65536
        assert model.fc.weight.grad is not None
        expected.append(model.fc.weight.grad.clone().numpy())
        optimizer.step()
        optimizer.zero_grad()
    tensor = closed(hook).tensor("gradient/Net_fc.weight")
    assert tensor.steps(TRAIN) == [0, 1, 2, 3]
    for step, wanted in ((0, expected[0]), (1, expected[0]), (2, expected[1]), (3, expected[1])):
        assert np.array_equal(tensor.value(step, TRAIN), wanted), step


def test_a_step_whose_gradients_were_thrown_away_has_none(out: Path) -> None:
    model = Net()
    hook = Hook(out, **every(include_collections=["gradients"]))
    hook.register_hook(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        images, labels = batch(step)
        nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        if step != 1:  # as a GradScaler passes over a step whose gradients are infinite
            optimizer.step()
    assert closed(hook).tensor("gradient/Net_conv.bias").steps() == [0, 2]


def test_modes_have_steps_of_their_own_and_gradients_belong_to_training(out: Path) -> None:
    config = {TRAIN: SaveConfigMode(save_interval=2), EVAL: SaveConfigMode(save_interval=1, end_step=2)}
    model = Net()
    hook = Hook(out, save_config=config, include_collections=["gradients"], save_all=True)
    hook.register_module(model)
    for _ in range(2):
        hook.set_mode(TRAIN)
        fit(model, 3)
        hook.set_mode(EVAL)
        for step in range(2):  # without no_grad, as many scripts evaluate
            nn.functional.cross_entropy(model(batch(step)[0]), batch(step)[1])
    trial = closed(hook)
    assert (trial.steps(TRAIN), trial.steps(EVAL), trial.steps()) == ([0, 2, 4], [0, 1], [0, 2, 3, 4, 6])
    assert trial.tensor("CrossEntropyLoss_output_0").steps(EVAL) == [0, 1]
    assert trial.tensor("gradient/Net_fc.bias").steps(EVAL) == []
    assert trial.tensor("gradient/Net_fc.bias").steps() == [0, 2, 6]
    assert trial.tensor("CrossEntropyLoss_input_1").value(0).tolist() == batch(0)[1].tolist()
    assert (trial.mode(6), trial.mode_step(6), trial.global_step(EVAL, 1)) == (TRAIN, 4, 4)


def test_without_set_mode_the_models_own_mode_counts(out: Path) -> None:
    model, hook = Net(), Hook(out, **every())
    hook.register_hook(model)
    fit(model, 2)
    model.eval()
    with torch.no_grad():
        nn.functional.cross_entropy(model(batch()[0]), batch()[1])
    fit(model, 2)  # nobody has called train() again
    trial = closed(hook)
    assert (trial.steps(TRAIN), trial.steps(EVAL)) == ([0, 1, 2], [0, 1])  # the first such step shows only in its end


def test_losses_are_named_by_their_class_and_numbered(out: Path) -> None:
    class Smoothed(nn.Module):
        def forward(self, given: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(given, target, label_smoothing=0.1)

    model, own = Net(), Smoothed()
    hook = Hook(out, **every())
    hook.register_module(model)
    hook.register_loss(own)
    images, labels = batch()
    made = model(images)
    first, second = nn.CrossEntropyLoss()(made, labels), nn.NLLLoss()(made.log_softmax(1), labels)
    third, fourth = own(made, labels), nn.functional.cross_entropy(made, labels, reduction="sum")
    found = closed(hook)
    names = ["CrossEntropyLoss_output_0", "CrossEntropyLoss_output_1", "NLLLoss_output_0"]
    assert found.tensor_names(collection="losses") == names
    for name, expected in zip(names, (first, fourth, second), strict=True):
        assert float(found.tensor(name).value(0)) == pytest.approx(expected.item())
    assert third.item() != first.item()


def test_numbers_and_tensors_of_the_scripts_own(out: Path) -> None:
    model, hook = Net(), Hook(out, include_regex=["mine"])
    hook.register_hook(model)

    def before(step: int) -> None:
        if step:
            hook.save_scalar("accuracy", step / 10, sm_metric=True)
            hook.save_tensor("seen", torch.tensor([step, step], dtype=torch.bfloat16), collections_to_write="extra")
            hook.record_tensor_value("mine", torch.tensor(2.0))

    fit(model, 3, before=before)
    hook.save_tensor("words", "cannot be")
    with pytest.raises(SMDebugTypeError, match="non scalar"):
        hook.save_scalar("two", [1, 2])
    trial = closed(hook)
    assert trial.tensor("scalar/accuracy").values() == {0: np.array(0.1), 1: np.array(0.2)}
    assert {step: value.tolist() for step, value in trial.tensor("seen").values().items()} == {0: [1, 1], 1: [2, 2]}
    assert trial.tensor("mine_output_0").steps() == [0]
    assert "words" not in trial.tensor_names()


def test_reductions_stand_in_place_of_tensors(out: Path) -> None:
    config = ReductionConfig(["min", "variance"], abs_reductions=["mean"], norms=["l2"], save_shape=True)
    model = Net()
    weight = model.fc.weight.detach().clone()
    hook = Hook(out, **every(reduction_config=config, include_collections=["weights"]))
    hook.register_hook(model)
    fit(model, 1)
    trial = closed(hook)
    tensor = trial.tensor("Net_fc.weight")
    found = tensor.reduction_values(0)
    assert {key: float(value) for key, value in found.items()} == pytest.approx(
        {
            ("min", False): float(weight.min()),
            ("variance", False): float(weight.var()),
            ("mean", True): float(weight.abs().mean()),
            ("l2", False): float(weight.norm()),
        }
    )
    assert tensor.shape(0) == (5, 4)
    with pytest.raises(TensorUnavailableForStep, match="Reductions of it were saved"):
        tensor.value(0)
    with pytest.raises(TensorUnavailableForStep):
        tensor.reduction_value(0, "max")
    assert trial.tensor("CrossEntropyLoss_output_0").value(0).shape == ()  # losses are never reduced


def test_what_nobody_asked_for_is_reduced_where_it_is_large(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("houndsight.scripts.smdebug_hook.MOST_BYTES", 400)
    model, hook = Net(), Hook.of(read(None), str(out))
    hook.register_hook(model)
    fit(model, 1)
    trial = closed(hook)
    assert {"CrossEntropyLoss_output_0", "relu_input_0", "gradient/Net_fc.weight"} <= set(trial.tensor_names())
    assert trial.tensor("relu_input_0").shape(0) == (6, 4, 4, 4)
    assert trial.tensor("relu_input_0").reduction_value(0, "min") < 0
    assert trial.tensor("gradient/Net_fc.bias").value(0).shape == (5,)
    assert trial.tensor("gradient/Net_conv.weight").reduction_value(0, "l2") > 0


def test_the_weights_are_the_same_with_and_without(out: Path) -> None:
    def trained(hook: Hook | None) -> list[torch.Tensor]:
        torch.manual_seed(3)
        model = Net(dropout=0.5)
        if hook is not None:
            hook.register_module(model)
        fit(model, 5)
        return [each.detach() for each in model.parameters()]

    watched = trained(Hook(out, **every(save_all=True)))
    assert all(torch.equal(one, other) for one, other in zip(watched, trained(None), strict=True))


def test_copies_and_pickles_of_the_model_carry_nothing(out: Path) -> None:
    model, hook = Net(), Hook(out, **every(save_all=True))
    hook.register_hook(model)
    fit(model, 1)
    twin = copy.deepcopy(model)
    twin(batch()[0])
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    torch.load(file, weights_only=False)(batch()[0])
    with pytest.warns(FutureWarning, match="deprecated"):
        traced = torch.jit.trace(model, batch()[0], check_trace=False)  # type: ignore[no-untyped-call]
    assert traced(batch()[0]).shape == (6, 5)
    assert closed(hook).steps() == [0]
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_two_models_have_names_of_their_own_and_the_first_counts(out: Path) -> None:
    student, teacher = Net(), Net()
    hook = Hook(out, **every(include_regex=["fc_output", "^Net.*_fc.weight"]))
    hook.register_module(student)
    hook.register_module(teacher)
    hook.register_module(student)  # once more: nothing new
    fit(student, 2, before=lambda step: teacher(batch(step)[0]))
    trial = closed(hook)
    assert trial.steps() == [0, 1]
    assert trial.tensor_names(collection="default") == [
        "Net#2.fc_output_0",
        "Net#2_fc.weight",
        "Net_fc.weight",
        "fc_output_0",
    ]


def test_a_full_disk_ends_the_saving_and_not_the_training(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, hook = Net(), Hook(out, **every(save_all=True))
    hook.register_hook(model)
    fit(model, 1)
    (out / "worker_0").write_text("in the way of the folder")
    with caplog.at_level(logging.WARNING, "houndsight"):
        fit(model, 2)
    assert "no longer saved" in caplog.text
    assert not model._forward_pre_hooks
    hook.close()


def test_a_second_run_in_the_same_place_goes_on_counting(out: Path) -> None:
    for _ in range(2):
        model, hook = Net(), Hook(out, **every())
        hook.register_hook(model)
        hook.set_mode(TRAIN)
        fit(model, 2)
        hook.close()
    with (out / "worker_0.jsonl").open("ab") as file:
        file.write(b'{"step": 9, "mode": "TR')  # a writer that was killed
    model, hook = Net(), Hook(out, **every())
    hook.register_hook(model)
    hook.set_mode(TRAIN)
    fit(model, 1)
    assert closed(hook).steps(TRAIN) == [0, 1, 2, 3, 4]


def test_a_second_process_in_the_same_place_saves_nothing(out: Path) -> None:
    first, second = Hook(out, **every()), Hook(out, **every())
    assert first.has_default_writer()
    assert not second.has_default_writer()
    second.register_hook(model := Net())
    fit(model, 1)
    assert closed(first).steps() == []


def test_a_forked_child_saves_nothing(out: Path) -> None:
    model, hook = Net(), Hook(out, **every())
    hook.register_hook(model)
    fit(model, 1)
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)  # the threads of OpenMP did not come along, and waiting for them has no end
            model(batch()[0])
            hook.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    fit(model, 1)
    assert closed(hook).steps() == [0, 1]


def test_outside_of_jobs_a_hook_is_there_and_saves_nothing() -> None:
    assert get_hook() is None
    hook = Hook.create_from_json_file()
    assert get_hook() is hook
    hook.register_module(model := Net())
    hook.register_loss(nn.CrossEntropyLoss())
    hook.set_mode(EVAL)
    hook.save_scalar("x", 1.0)
    fit(model, 1)
    hook.close()
    assert not hook.has_default_writer()
    assert get_hook(create_if_not_exists=True) is hook


def test_what_cannot_be_is_said() -> None:
    hook = Hook()
    with pytest.raises(SMDebugTypeError, match=r"torch\.nn\.Module"):
        hook.register_module("model")  # type: ignore[arg-type]
    with pytest.raises(SMDebugValueError, match="Invalid mode"):
        hook.set_mode("TRAIN")
    with pytest.raises(NotImplementedError, match="PyTorch"):
        wrap_optimizer(None)
    hook.register_loss(nn.functional.cross_entropy)  # a function: said in a warning, and heard without it


def test_module_tensors_of_a_collection(out: Path) -> None:
    model, hook = Net(), Hook(out, **every(include_collections=["head"]))
    hook.get_collection("head").add_module_tensors(model.fc, inputs=True, outputs=True)
    hook.register_module(model)
    fit(model, 1)
    trial = closed(hook)
    assert trial.tensor_names(collection="head") == ["fc_input_0", "fc_output_0"]
    assert np.allclose(trial.tensor("fc_output_0").value(0).shape, (6, 5))


def test_a_configuration_of_sagemakers(out: Path, tmp_path: Path) -> None:
    collection = Collection("acts", ["relu_output"], save_config=SaveConfig({EVAL: SaveConfigMode(save_interval=1)}))
    config = HookConfig(include_collections=["acts"], collections=[collection], save_config=SaveConfig(save_interval=2))
    model, hook = Net(), Hook.of(config, str(out))
    hook.register_module(model)
    for mode in (TRAIN, EVAL):
        hook.set_mode(mode)
        fit(model, 3)
    tensor = closed(hook).tensor("relu_output_0")
    assert (tensor.steps(TRAIN), tensor.steps(EVAL)) == ([0, 2], [0, 1, 2])


def test_several_may_hear_losses_and_end_in_any_order() -> None:
    before, told = nn.functional.cross_entropy, []
    first, second = ExitStack(), ExitStack()
    first.enter_context(losses.heard(lambda *given: told.append("first")))
    second.enter_context(losses.heard(lambda *given: told.append("second")))
    model = Net()
    for ended in (first, second):
        nn.functional.cross_entropy(model(batch()[0]), batch()[1])
        ended.close()
    assert told == ["first", "second", "second"]
    assert nn.functional.cross_entropy is before


def test_gradients_that_a_fused_kernel_unscales_are_saved_unscaled(out: Path) -> None:
    def gradient(scale: float, hook: Hook | None) -> torch.Tensor:
        torch.manual_seed(0)
        model = Net()
        if hook is not None:
            hook.register_hook(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(nn.functional.cross_entropy(model(batch()[0]), batch()[1])).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        assert model.fc.weight.grad is not None
        return model.fc.weight.grad

    hook = Hook(out, **every(include_collections=["gradients"]))
    gradient(1024.0, hook)
    saved = closed(hook).tensor("gradient/Net_fc.weight").value(0)
    assert np.allclose(saved, gradient(1.0, None).numpy(), rtol=1e-6)
