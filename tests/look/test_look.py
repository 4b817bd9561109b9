"""What a look at a script's source tells: every rule where it has to speak, and where it has to be silent."""

from pathlib import Path

import pytest

from houndsight.contract.look import MOST_SAID, look, sentences
from houndsight.spec import Finding

from .cases import ANSWERS, CRITERION, HARMLESS, INFERENCE, LAST, NORMAL, TRAIN, TRAINING


def looked(
    folder: Path, train: str = TRAIN, inference: str | None = INFERENCE, cores: int = 4, gpus: int = 0, tuned: str = ""
) -> list[Finding]:
    (folder / "train_model.py").write_text(train, encoding="utf-8")
    if inference is not None:
        (folder / "inference.py").write_text(inference, encoding="utf-8")
    return look(folder, "train_model.py", cores=cores, gpus=gpus, tuned=tuned)


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize("gpus", [0, 1])
def test_nothing_is_said_of_a_script_without_mistakes(tmp_path: Path, gpus: int) -> None:
    assert looked(tmp_path, gpus=gpus) == []
    assert looked(tmp_path, inference=None, gpus=gpus) == []


@pytest.mark.parametrize(("rule", "severity", "old", "new", "code"), TRAINING)
def test_a_mistake_in_training(tmp_path: Path, rule: str, severity: str, old: str, new: str, code: str) -> None:
    found = looked(tmp_path, replaced(TRAIN, old, new))
    named = [each for each in found if each.rule == rule]
    assert [each.severity for each in named] == [severity], found
    assert code in named[0].evidence["code"]
    lines = (tmp_path / "train_model.py").read_text().splitlines()
    assert lines[named[0].evidence["line"] - 1].strip() == named[0].evidence["code"]
    assert f"train_model.py, line {named[0].evidence['line']}" in named[0].message
    assert named[0].repair
    others = {each.rule for each in found if each.severity != "info"} - {rule}
    # A whole module is refused by the answers, and what is not normalised in training is there.
    assert others <= {"model_differs", "transforms_differ"}, others


@pytest.mark.parametrize(("rule", "severity", "old", "new", "code"), ANSWERS)
def test_a_mistake_in_the_answers(tmp_path: Path, rule: str, severity: str, old: str, new: str, code: str) -> None:
    found = looked(tmp_path, inference=replaced(INFERENCE, old, new))
    assert [(each.rule, each.severity) for each in found] == [(rule, severity)]
    assert found[0].evidence["file"] == "inference.py"
    assert code in found[0].evidence["code"]


@pytest.mark.parametrize("name", HARMLESS)
def test_no_mistake(tmp_path: Path, name: str) -> None:
    old, new = HARMLESS[name]
    train = replaced(TRAIN, old, new)
    if name == "mean of batches":
        train = train.replace(
            "average = running_loss / len(test_loader.dataset)", "average = running_loss / len(test_loader)"
        )
    if name == "log_softmax with its loss":
        train = train.replace(CRITERION, "criterion = nn.NLLLoss()")
    assert [each for each in looked(tmp_path, train, inference=None) if each.severity != "info"] == []


def test_a_gpu_that_is_not_used(tmp_path: Path) -> None:
    train = replaced(TRAIN, "net().to(device)", "net()")
    assert [each.rule for each in looked(tmp_path, train, gpus=1)] == ["gpu_unused"]
    assert looked(tmp_path, train, gpus=0) == []
    never = replaced(TRAIN, 'torch.device("cuda" if torch.cuda.is_available() else "cpu")', "None")
    assert [each.rule for each in looked(tmp_path, never, gpus=1)] == ["gpu_unused"]
    hard = replaced(TRAIN, "net().to(device)", "net().cuda()")
    assert looked(tmp_path, hard, gpus=1) == []


def test_workers_matter_more_with_a_gpu(tmp_path: Path) -> None:
    train = replaced(TRAIN, ", num_workers=4", "")
    (found,) = looked(tmp_path, train, gpus=1)
    assert (found.rule, found.severity) == ("loader_workers", "warning")
    assert "num_workers=4, pin_memory=True" in found.repair
    assert looked(tmp_path, train, cores=1) == []


def test_a_tuning_that_chooses_by_the_test_images(tmp_path: Path) -> None:
    train = TRAIN.replace('"valid"', '"test"').replace("Validation: ", "Test set: ")
    tuned = r"Test set: Average loss: ([0-9\.]+)"
    (found,) = looked(tmp_path, train, tuned=tuned)
    assert (found.rule, found.severity) == ("chosen_on_test", "warning")
    assert looked(tmp_path, train) == []
    assert looked(tmp_path, train, tuned="Train loss: ([0-9.]+)") == []
    assert looked(tmp_path, TRAIN, tuned="Validation: Average loss: ([0-9.]+)") == []


def test_the_phase_style(tmp_path: Path) -> None:
    """One loop for training and validation, as in PyTorch's tutorial: dictionaries of loaders and transforms."""
    code = """
import copy, os, torch
from torch import nn, optim
from torchvision import datasets, models, transforms
from torch.utils.data import DataLoader
from PIL import ImageFile
ImageFile.LOAD_TRUNCATED_IMAGES = True
torch.manual_seed(1)
data_transforms = {
    'train': transforms.Compose([transforms.RandomResizedCrop(224), transforms.ToTensor()]),
    'valid': transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]),
}
image_datasets = {x: datasets.ImageFolder(os.path.join('data', x), data_transforms[x]) for x in ['train', 'valid']}
loaders = {x: DataLoader(image_datasets[x], batch_size=4, shuffle=True, num_workers=2) for x in ['train', 'valid']}

def train_model(model, criterion, optimizer):
    for epoch in range(3):
        for phase in ['train', 'valid']:
            if phase == 'train':
                model.train()
            else:
                model.eval()
            for inputs, labels in loaders[phase]:
                outputs = model(inputs)
                loss = criterion(outputs, labels)
                if phase == 'train':
                    loss.backward()
                    optimizer.step()
    return model

model_ft = models.resnet18(weights='IMAGENET1K_V1')
model_ft.fc = nn.Linear(model_ft.fc.in_features, 2)
train_model(model_ft, nn.CrossEntropyLoss(), optim.SGD(model_ft.parameters(), lr=0.001))
"""
    found = {each.rule: each for each in looked(tmp_path, code, inference=None)}
    assert set(found) == {"no_grad", "input_preprocessing"}
    assert len(found["input_preprocessing"].evidence["places"]) == 2
    once = code.replace(
        "                outputs =",
        "                with torch.set_grad_enabled(phase == 'train'):\n                  outputs =",
    )
    assert "no_grad" not in {each.rule for each in looked(tmp_path, once, inference=None)}


def test_a_module_of_the_scripts_own_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("""
import torch.nn as nn
import torch.nn.functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 10)
        self.out = nn.Softmax(dim=1)
    def forward(self, x):
        x = F.relu(self.fc1(x))
        return self.out(self.fc2(x))
""")
    train = TRAIN.replace("import argparse, os", "import argparse, os\nfrom model import Net").replace(
        "net().to", "Net().to"
    )
    (found,) = [each for each in looked(tmp_path, train, inference=None) if each.rule == "head_outputs"]
    assert (found.evidence["file"], found.severity) == ("model.py", "warning")
    good = (tmp_path / "model.py").read_text().replace("return self.out(self.fc2(x))", "return self.fc2(x)")
    (tmp_path / "model.py").write_text(good)
    assert looked(tmp_path, train, inference=None) == []


def test_a_broken_neighbour_is_told_before_the_training_begins(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("x = 1\nif x:\n\ty = 2\n        z = 3\n")
    (found,) = looked(tmp_path, "import helper\n" + TRAIN, inference=None)
    assert (found.rule, found.evidence["file"], found.evidence["line"]) == ("syntax", "helper.py", 4)
    assert "TabError" in found.message


def test_the_answers_may_be_in_the_training_script(tmp_path: Path) -> None:
    both = (
        TRAIN
        + "\n\nimport io\nfrom PIL import Image\n"
        + INFERENCE[INFERENCE.index("def model_fn") :].replace("requests", "os")
    )
    both = replaced(both, "nn.Linear(128, 133))", "nn.Linear(128, 133))  # one for both")
    both = both.replace("device = torch.device", "device = torch.device").replace("to(device))", "to('cpu'))")
    both = "import json\n" + both.replace("map_location=device", "map_location='cpu'").replace(
        "model.to(device).eval()", "model.eval()"
    )
    assert {each.rule for each in looked(tmp_path, both, inference=None)} == {"weights_again"}
    cut = replaced(
        both,
        f"transforms.ToTensor(),\n{NORMAL}    ])\n    with",
        "transforms.ToTensor(),\n    ])\n    with",
    )
    assert "transforms_differ" in {each.rule for each in looked(tmp_path, cut, inference=None)}


@pytest.mark.parametrize(
    "code",
    [
        "",
        "\0",
        "(" * 5000,
        "x" + "=x" * 3000,
        "a = b = c = a\nb = a\na = b\nf = lambda: f()\nf()\n",
        "def f(x):\n    return f(f(x))\nmodel = f(f)\nmodel.fc = model\ncriterion(model(1), 2)\n",
        (
            "import torch.nn as nn\nclass A(A):\n    def forward(self, x):\n        return self.forward(x)\n"
            "nn.CrossEntropyLoss()(A()(1), 2)\n"
        ),
        (
            "import torch\ndef g(*a, **k):\n    return g(*a, **k)\ntorch.save(*g())\n"
            "torch.utils.data.DataLoader(*g(), **g())\n"
        ),
        "import torchvision.transforms as T\nT.Compose()\nT.Compose(T.Compose([T.Resize()]))\nT.Compose([*range(3)])\n",
        "from . import x\nfrom .. import y\nfrom .a import *\n",
        "# -*- coding: klingon -*-\nx = 1\n",
        "é = 1\nprint(é)\n",
    ],
)
def test_rubbish_is_read_without_a_mistake_of_its_own(tmp_path: Path, code: str) -> None:
    found = looked(tmp_path, code, inference=code)
    assert all(each.rule in ("syntax", "unbound_name") for each in found), found


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "train_model.py").write_bytes(b"x = 1\ny = '\xff\xfe'\n")
    (found,) = look(tmp_path, "train_model.py", cores=2, gpus=0)
    assert (found.rule, found.evidence["line"]) == ("syntax", 2)


def test_a_log_begins_with_few_sentences_and_the_worst_first(tmp_path: Path) -> None:
    train = TRAIN
    for rule, severity, old, new, _ in TRAINING:
        if severity != "info" and rule != "syntax" and old in train:
            train = train.replace(old, new)
    found = looked(tmp_path, train)
    assert len(found) > MOST_SAID
    said = sentences(found)
    assert len(said) == MOST_SAID
    assert [each.severity for each in found] == sorted(
        (each.severity for each in found), key=["error", "warning", "info"].index
    )
    assert "more are in the report" in said[-1]
    assert not sentences([each for each in found if each.severity == "info"])


def test_only_python_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text("exit 0")
    assert look(tmp_path, "train.sh", cores=2, gpus=0) == []


def test_the_last_layer_by_its_place(tmp_path: Path) -> None:
    for place, wrong in (("classifier[1]", True), ("classifier[6]", True), ("classifier[0]", False)):
        head = f"    model.{place} = nn.Sequential(nn.Linear(4, 133), nn.ReLU())\n"
        train = TRAIN.replace("resnet18", "vgg16").replace(
            f"    model.fc = nn.Sequential(nn.Linear(512, 128), nn.ReLU(inplace=True), {LAST}\n", head
        )
        train = train.replace("model.fc.parameters()", "model.parameters()")
        assert ("head_outputs" in {each.rule for each in looked(tmp_path, train, inference=None)}) == wrong


def test_a_name_that_is_given_values_one_after_another(tmp_path: Path) -> None:
    """Only the last value before the use counts; `x = relu(x)` above the last layer is no end of the network."""
    code = """
import torch, torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 10)
    def forward(self, x):
        x = F.relu(self.fc1(x))
        if x.dim() > 2:
            x = F.relu(x)
        x = self.fc2(x)
        return x
model = Net()
nn.CrossEntropyLoss()(model(torch.ones(1, 64)), torch.tensor([0])).backward()
"""
    assert looked(tmp_path, code, inference=None) == []
    wrong = code.replace("        return x\n", "        x = F.relu(x)\n        return x\n")
    (found,) = looked(tmp_path, wrong, inference=None)
    assert (found.rule, found.evidence["line"]) == ("head_outputs", 14)


@pytest.mark.parametrize(
    "end", ["seen > 500", "seen > 0.2 * len(train_loader.dataset)", "args.dry_run", "seen >= args.most"]
)
def test_a_plan_is_no_slice(tmp_path: Path, end: str) -> None:
    step = "        optimizer.step()\n"
    train = replaced(TRAIN, step, step + f"        seen += len(inputs)\n        if {end}:\n            break\n")
    rules = {each.rule for each in looked(tmp_path, train, inference=None)}
    assert ("partial_data" in rules) == ("args" not in end)
