"""The small SEW network of the golden values, in our modules."""

import numpy as np
import torch
from paths import GOLDEN
from torch import Tensor, nn

from repro.networks.sew_resnet import Halve, Layer, NeuronKind, SewBlock, SewNet

EXACT = {"rtol": 1e-9, "atol": 1e-10}
PRECISIONS = ["binary", "ternary"]
QUANTISED = (
    *("features.1.first.conv", "features.1.second.conv", "features.3.conv"),
    *("features.4.first.conv", "features.4.second.conv"),
)


def load(precision: str) -> dict[str, Tensor]:
    path = GOLDEN / f"sew_resnet_{precision}.npz"
    with np.load(path, allow_pickle=False) as file:
        return {key: torch.as_tensor(file[key]) for key in file.files}


def theirs(name: str) -> str:
    """The reference's name of one of our tensors."""
    steps = {"features.": "conv.", "first.": "conv.0.", "second.": "conv.1.", "classifier": "out"}
    steps |= {"neuron.w": "1.w", ".conv.weight": ".0.0.weight", "norm.": "0.1."}
    for ours, other in steps.items():
        name = name.replace(ours, other)
    return name


def network(golden: dict[str, Tensor], tau: float | None = 2.0) -> SewNet:
    kind = NeuronKind(tau)
    layers = [
        Layer(nn.Conv2d(2, 4, 3, padding=1, bias=False), kind.layer()),
        SewBlock(4, 4, 1, kind, "add"),
        Halve(),
        Layer(nn.Conv2d(4, 6, 1, bias=False), kind.layer()),
        SewBlock(6, 6, 1, kind, "add"),
        Halve(),
    ]
    net = SewNet(layers, nn.Linear(24, 5)).double()
    net.load_state_dict({name: golden[f"init.{theirs(name)}"] for name in net.state_dict()})
    return net
