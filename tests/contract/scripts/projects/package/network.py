"""The network: a head that ends in a softmax."""

# ruff: noqa
# mypy: ignore-errors

from torch import nn


def build(name, layers):
    assert name == "small"
    sizes = [8 * 8, *layers]
    hidden = []
    for a, b in zip(sizes, sizes[1:]):
        hidden += [nn.Linear(a, b), nn.ReLU()]
    return Small(nn.Sequential(*hidden), sizes[-1])


class Small(nn.Module):
    def __init__(self, hidden, size):
        super().__init__()
        self.hidden = hidden
        self.output = nn.Linear(size, 10)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        x = self.hidden(x.mean(1).flatten(1))
        x = self.output(x)
        return self.softmax(x)
