"""Small scripts with one mistake each, and the same without it; what the look at a script is tested on."""

TRAIN = """
import argparse, os
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
import torchvision
from torchvision import datasets, models, transforms
from PIL import ImageFile

ImageFile.LOAD_TRUNCATED_IMAGES = True
torch.manual_seed(0)


def test(model, test_loader, criterion, device):
    model.eval()
    running_loss, corrects = 0, 0
    with torch.no_grad():
        for inputs, labels in test_loader:
            inputs, labels = inputs.to(device), labels.to(device)
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            running_loss += loss.item() * inputs.size(0)
            corrects += torch.sum(outputs.argmax(1) == labels.data).item()
    average = running_loss / len(test_loader.dataset)
    print(f"Validation: Average loss: {average:.4f}, Accuracy: {corrects / len(test_loader.dataset):.4f}")


def train(model, train_loader, criterion, optimizer, device):
    model.train()
    for inputs, labels in train_loader:
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
    return model


def net():
    model = models.resnet18(pretrained=True)
    for param in model.parameters():
        param.requires_grad = False
    model.fc = nn.Sequential(nn.Linear(512, 128), nn.ReLU(inplace=True), nn.Linear(128, 133))
    return model


def create_data_loaders(data, batch_size):
    train_transform = transforms.Compose([
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])
    test_transform = transforms.Compose([
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])
    train_set = datasets.ImageFolder(os.path.join(data, "train"), transform=train_transform)
    valid_set = datasets.ImageFolder(os.path.join(data, "valid"), transform=test_transform)
    train_loader = torch.utils.data.DataLoader(train_set, batch_size=batch_size, shuffle=True, num_workers=4)
    valid_loader = torch.utils.data.DataLoader(valid_set, batch_size=batch_size, num_workers=4)
    return train_loader, valid_loader


def main(args):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = net().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.fc.parameters(), lr=args.lr)
    train_loader, valid_loader = create_data_loaders(args.data, args.batch_size)
    for epoch in range(args.epochs):
        model = train(model, train_loader, criterion, optimizer, device)
        test(model, valid_loader, criterion, device)
    torch.save(model.cpu().state_dict(), os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--data", default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    main(parser.parse_args())
"""
"""A training script in which there is nothing to find."""

INFERENCE = """
import io, json, os
import requests
import torch
import torch.nn as nn
from PIL import Image
from torchvision import models, transforms

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def net():
    model = models.resnet18(weights=None)
    model.fc = nn.Sequential(nn.Linear(512, 128), nn.ReLU(inplace=True), nn.Linear(128, 133))
    return model


def model_fn(model_dir):
    model = net()
    with open(os.path.join(model_dir, "model.pth"), "rb") as f:
        model.load_state_dict(torch.load(f, map_location=device))
    return model.to(device).eval()


def input_fn(request_body, content_type="image/jpeg"):
    if content_type == "application/json":
        return Image.open(io.BytesIO(requests.get(json.loads(request_body)["url"]).content))
    return Image.open(io.BytesIO(request_body))


def predict_fn(input_object, model):
    transform = transforms.Compose([
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])
    with torch.no_grad():
        return model(transform(input_object).unsqueeze(0).to(device))
"""
"""Its answers, in which there is nothing to find either."""

NORMAL = "        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),\n"
LAST = "nn.Linear(128, 133))"
CRITERION = "criterion = nn.CrossEntropyLoss()"
HEAD = "    model.fc = nn.Sequential(nn.Linear(512, 128), nn.ReLU(inplace=True), nn.Linear(128, 133))\n"
FREEZE = "    for param in model.parameters():\n        param.requires_grad = False\n"
OUTPUTS = "        outputs = model(inputs)\n        loss = criterion(outputs, labels)\n        loss.backward()"

# (rule, severity, what is replaced, by what, what the excerpt of the line holds)
TRAINING = [
    ("head_outputs", "error", LAST, "nn.Linear(128, 133), nn.ReLU(inplace=True))", "nn.ReLU"),
    ("head_outputs", "warning", LAST, "nn.Linear(128, 133), nn.Softmax(dim=1))", "nn.Softmax"),
    ("head_outputs", "info", LAST, "nn.Linear(128, 133), nn.LogSoftmax(dim=1))", "nn.LogSoftmax"),
    (
        "head_outputs",
        "warning",
        OUTPUTS,
        OUTPUTS.replace("model(inputs)", "F.softmax(model(inputs), dim=1)"),
        "F.softmax",
    ),
    (
        "head_outputs",
        "error",
        OUTPUTS,
        OUTPUTS.replace("criterion(outputs", "criterion(torch.relu(outputs)"),
        "torch.relu",
    ),
    ("head_outputs", "warning", OUTPUTS, OUTPUTS.replace("model(inputs)", "model(inputs).sigmoid()"), "sigmoid"),
    ("head_outputs", "error", CRITERION, "criterion = nn.NLLLoss()", "nn.Linear"),
    ("head_outputs", "error", OUTPUTS, OUTPUTS.replace("criterion(outputs", "F.nll_loss(outputs"), "nn.Linear"),
    ("input_preprocessing", "warning", NORMAL, "", "ToTensor"),
    (
        "input_preprocessing",
        "info",
        "[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]",
        "(0.5, 0.5, 0.5), (0.5, 0.5, 0.5)",
        "Normalize",
    ),
    ("random_evaluation", "warning", "transforms.CenterCrop(224)", "transforms.RandomCrop(224)", "RandomCrop"),
    ("loader_workers", "info", ", num_workers=4", "", "DataLoader"),
    ("loader_workers", "info", "num_workers=4", "num_workers=0", "DataLoader"),
    ("not_shuffled", "warning", ", shuffle=True", "", "train_set"),
    ("truncated_images", "info", "ImageFile.LOAD_TRUNCATED_IMAGES = True", "", "ImageFolder"),
    ("no_seed", "info", "torch.manual_seed(0)", "", "backward"),
    ("no_grad", "warning", "with torch.no_grad():", "if True:", "test_loader"),
    ("wrong_mode", "error", "    model.eval()\n", "", "test_loader"),
    ("wrong_mode", "warning", "    model.train()\n", "", "model.eval()"),
    ("integer_metrics", "warning", "running_loss / len", "running_loss // len", "running_loss // len"),
    ("metric_scale", "warning", "len(test_loader.dataset)\n", "len(test_loader)\n", "running_loss / len"),
    ("metric_scale", "warning", " * inputs.size(0)", "", "running_loss / len"),
    ("metric_scale", "warning", "{average:.4f}", "{average / len(test_loader.dataset):.4f}", "average / len"),
    ("whole_module", "warning", "model.cpu().state_dict()", "model", "torch.save"),
    ("optimizer_coverage", "error", FREEZE + HEAD, HEAD + FREEZE, "for param"),
    ("optimizer_coverage", "error", "model.fc.parameters()", "model.classifier.parameters()", "optim.Adam"),
    ("cuda_absent", "error", "net().to(device)", "net().cuda()", "cuda()"),
    ("cuda_absent", "error", '"cuda" if torch.cuda.is_available() else "cpu"', '"cuda:0"', "to(device)"),
    ("argument_type", "warning", "type=int, default=64", "type=list, default=64", "type=list"),
    ("argument_type", "warning", "type=int, default=64", "type=bool, default=64", "type=bool"),
    ("unbound_name", "error", "torch.save(model", "torch.save(mdoel", "mdoel"),
    (
        "unbound_name",
        "error",
        "return train_loader, valid_loader",
        "return train_loader, valid_loader, test_lodaer",
        "lodaer",
    ),
    ("syntax", "error", "def net():", "def net()", "def net()"),
    ("syntax", "error", "    model.train()\n", "\tmodel.train()\n", "for inputs"),
    (
        "partial_data",
        "warning",
        "        optimizer.step()\n",
        "        optimizer.step()\n        seen += len(inputs)\n        if seen > 500:\n            break\n",
        "break",
    ),
]

# (rule, severity, what is replaced in the answers, by what, what the excerpt holds)
ANSWERS = [
    ("transforms_differ", "warning", NORMAL, "", "Compose"),
    ("transforms_differ", "warning", "0.485, 0.456, 0.406", "0.5, 0.5, 0.5", "Normalize"),
    ("transforms_differ", "warning", "CenterCrop(224)", "CenterCrop(128)", "Compose"),
    ("random_inference", "warning", "CenterCrop(224)", "RandomResizedCrop(224)", "RandomResizedCrop"),
    ("no_grad", "info", "with torch.no_grad():", "if True:", "return model("),
    ("wrong_mode", "warning", ".eval()", "", "return model("),
    ("map_location", "info", ", map_location=device", "", "torch.load"),
    ("weights_again", "info", "weights=None", "pretrained=True", "resnet18"),
    ("model_differs", "error", "resnet18", "resnet50", "resnet50"),
    ("model_differs", "error", "nn.Linear(512, 128)", "nn.Linear(512, 256)", "model.fc ="),
    ("model_differs", "error", "nn.ReLU(inplace=True), ", "", "model.fc ="),
    ("cuda_absent", "error", ".unsqueeze(0).to(device)", ".unsqueeze(0).cuda()", "cuda()"),
    ("unbound_name", "error", "import requests\n", "", "requests"),
    ("syntax", "error", "def net():", "def net(:", "def net(:"),
]

# Changes of the training script that are no mistake, and look like one.
HARMLESS = {
    "softmax at the evaluation only": ("outputs.argmax(1)", "F.softmax(outputs, dim=1).argmax(1)"),
    "log_softmax with its loss": (
        LAST + "\n    return model",
        "nn.Linear(128, 133), nn.LogSoftmax(dim=1))\n    return model",
    ),
    "ReLU within the head": ("nn.Linear(128, 133))", "nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 133))"),
    "guarded cuda": (
        "inputs, labels = inputs.to(device), labels.to(device)\n",
        "if torch.cuda.is_available(): inputs, labels = inputs.cuda(), labels.cuda()\n",
    ),
    "cuda behind a flag": (
        "model = net().to(device)",
        "model = net()\n    use_cuda = args.lr > 5\n    if use_cuda:\n        model.cuda()",
    ),
    "set_grad_enabled": ("with torch.no_grad():", "with torch.set_grad_enabled(False):"),
    "inference_mode as a decorator": ("def test(", "@torch.inference_mode()\ndef test("),
    "no_grad at the call": (
        "        test(model, valid",
        "        with torch.no_grad():\n            test(model, valid",
    ),
    "floor division of a count": ("model.train()", "model.train()\n    steps = len(train_loader.dataset) // 64"),
    "break at a loss that is no number": (
        "        loss.backward()",
        "        if not torch.isfinite(loss):\n            break\n        loss.backward()",
    ),
    "mean of batches": (" * inputs.size(0)\n", "\n"),
    "sum over images": ("criterion = nn.CrossEntropyLoss()", "criterion = nn.CrossEntropyLoss(reduction='mean')"),
    "head made trainable again": (
        "    model.fc = nn.Sequential",
        "    for param in model.layer4.parameters():\n        param.requires_grad = True\n    model.fc = nn.Sequential",
    ),
    "parameters by a filter": ("model.fc.parameters()", "filter(lambda p: p.requires_grad, model.parameters())"),
    "all parameters of a frozen network": ("model.fc.parameters()", "model.parameters()"),
    "a dictionary saved": (
        "torch.save(model.cpu().state_dict()",
        "torch.save({'state': model.state_dict(), 'epoch': 3}",
    ),
    "names by a later import": (
        "def main(args):\n",
        "def main(args):\n    global json\n    import json\n    json.dumps(1)\n",
    ),
    "comprehensions and lambdas": (
        "def main(args):\n",
        "def main(args):\n    print([x for x in range(3) if (lambda y: y > x)(1)])\n",
    ),
    "a sampler in place of shuffling": ("shuffle=True", "sampler=torch.utils.data.RandomSampler(train_set)"),
    "weights by their enumeration": ("pretrained=True", "weights=models.ResNet18_Weights.DEFAULT"),
    "seeds in a function": (
        "torch.manual_seed(0)",
        "def seed_everything(n):\n    torch.manual_seed(n)\nseed_everything(3)",
    ),
    "transforms in a list": (
        "transforms.Compose([\n        transforms.Resize(256)",
        "transforms.Compose([\n        transforms.Resize((256, 256))",
    ),
}
