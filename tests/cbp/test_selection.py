"""Layers and level sets by patterns of names, and what is wrong with a pattern."""

import pytest
import torch
from torch import nn

from repro.cbp.layers import prepare, prepared_layers
from repro.cbp.levels import LEVELS
from repro.cbp.selection import choose_layers, choose_levels, unscaled_levels
from repro.errors import UserError


def network() -> nn.Module:
    """Six layers: stem, features.0.conv, features.1.conv, features.1.skip, head.0, head.2."""
    torch.manual_seed(0)
    block = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3)})
    wide = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3), "skip": nn.Conv2d(4, 4, 1)})
    features = nn.Sequential()
    features.add_module("0", block)
    features.add_module("1", wide)
    head = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    return nn.ModuleDict({"stem": nn.Conv2d(1, 4, 3), "features": features, "head": head})


INNER = ["features.0.conv", "features.1.conv", "features.1.skip", "head.0"]


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ({}, INNER),
        ({"layers": ["features.*"]}, INNER[1:2]),
        ({"layers": ["features.*"], "keep": ()}, INNER[:3]),
        ({"layers": ["*.conv", "head.*"]}, [INNER[1], "head.0"]),
        ({"layers": ["stem", "features.1.conv", "head.2"]}, ["stem", "features.1.conv", "head.2"]),
        ({"layers": ["stem", "*.conv"]}, ["stem", INNER[0]]),
        ({"layers": ["features.[01].conv"], "keep": (), "exclude": ["*.1.*"]}, INNER[:1]),
        ({"exclude": ["*skip"]}, [*INNER[:2], "head.0"]),
        ({"keep": ()}, ["stem", *INNER, "head.2"]),
        ({"keep": (), "layers": ["stem", "head.?"]}, ["stem", "head.0", "head.2"]),
        ({"keep": ["head.*"]}, ["stem", *INNER[:3]]),
    ],
)
def test_layers_by_pattern(arguments: dict[str, list[str]], chosen: list[str]) -> None:
    assert list(choose_layers(network(), **arguments)) == chosen


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"layers": ["feature.*"]}, r"named \['feature\.\*'\]; there are \['stem'"),
        ({"exclude": ["*.convolution"]}, r"named \['\*\.convolution'\]"),
        ({"layers": ["ste?"]}, r"\['ste\?'\] takes \['stem'\], \['stem'\] stay FP32"),
        ({"exclude": ["features.*", "head.0"]}, "no layer is left"),
        ({"layers": "features.*"}, r"give a list"),
    ],
)
def test_patterns_without_effect_are_errors(arguments: dict[str, list[str]], wrong: str) -> None:
    with pytest.raises(UserError, match=wrong):
        choose_layers(network(), **arguments)


def test_only_what_trains_is_taken_unless_it_is_named() -> None:
    half = network()
    half.get_submodule("stem").requires_grad_(False)
    half.get_submodule("features.1.conv").requires_grad_(False)
    assert list(choose_layers(half)) == ["features.1.skip", "head.0"]
    assert list(choose_layers(half, layers=["*", "stem"])) == [
        "stem",
        "features.0.conv",
        "features.1.skip",
        "head.0",
    ]
    with pytest.raises(UserError, match="requires a gradient: name a frozen layer exactly"):
        choose_layers(half.requires_grad_(False))


class Backwards(nn.Module):
    """Four layers, met in the reverse of the order in which they are registered; one is not met."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(4)])
        self.norm = nn.BatchNorm1d(4)
        self.spare = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        assert not self.training
        for layer in reversed(self.layers):
            x = self.norm(layer(x)) * scale
        return x


@pytest.mark.parametrize(
    "example", [torch.ones(2, 4), (torch.ones(2, 4), 2.0), {"x": torch.ones(2, 4)}]
)
def test_first_and_last_are_those_of_the_forward_pass(example: object) -> None:
    upside = Backwards().train()
    before = {name: tensor.clone() for name, tensor in upside.state_dict().items()}
    assert list(choose_layers(upside)) == [f"layers.{i}" for i in (1, 2, 3)]
    expected = ["layers.1", "layers.2", "spare"]
    assert list(choose_layers(upside, example=example)) == expected
    upside.example_input_array = example  # type: ignore[assignment]
    assert list(choose_layers(upside)) == expected
    assert upside.training
    assert upside.norm.training
    assert not any(layer._forward_pre_hooks for layer in upside.modules())
    for name, tensor in upside.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    with pytest.raises(UserError, match=r"cannot take the example: .*shapes"):
        choose_layers(upside, example=torch.ones(2, 3))
    assert upside.training


def test_the_first_pattern_that_fits_decides_and_the_rest_stays() -> None:
    levels = choose_levels(INNER, {"*.skip": "shift2", "features.*": "ternary"})
    names = [*INNER[:3]]
    sets = ["ternary", "ternary", "shift2"]
    assert levels == {n: LEVELS[s] for n, s in zip(names, sets, strict=True)}
    other = choose_levels(INNER, {"features.*": "ternary", "*": "binary"})
    assert other["head.0"] == LEVELS["binary"]
    assert other["features.1.skip"] == LEVELS["ternary"]
    with pytest.raises(UserError, match=r"levels for '\*\.skip' concern no layer"):
        choose_levels(INNER, {"features.*": "ternary", "*.skip": "shift2"})
    with pytest.raises(UserError, match="unknown level set 'quaternary'"):
        choose_levels(INNER, {"*": "quaternary"})


def test_four_level_sets_and_ones_own() -> None:
    assert list(LEVELS) == ["binary", "ternary", "shift1", "shift2"]
    assert unscaled_levels("shift1") == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert unscaled_levels("shift2") == (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
    assert unscaled_levels([-1, 3]) == (-1.0, 3.0)
    for wrong in ([1.0], [1.0, -1.0], [1.0, 1.0]):
        with pytest.raises(UserError, match="must ascend"):
            unscaled_levels(wrong)


def test_mixed_precision_reaches_the_weights() -> None:
    net = network()
    prepared = prepare(net, {"*.skip": "shift2", "features.*": "ternary", "*": "binary"})
    assert {name: levels.bits for name, levels in prepared.items()} == {
        "features.0.conv": 2,
        "features.1.conv": 2,
        "features.1.skip": 3,
        "head.0": 1,
    }
    for name, (_, quantiser) in prepared_layers(net).items():
        assert torch.isin(net.get_submodule(name).weight, quantiser.values).all()


def test_a_weight_of_two_layers_is_refused_unless_both_stay() -> None:
    net = network()
    net["features"][1]["conv"].weight = net["features"][0]["conv"].weight
    with pytest.raises(UserError, match=r"features\.1\.conv\.weight is a parameter of features\.0"):
        prepare(net)
    assert not prepared_layers(net)
    assert list(prepare(net, exclude=["*.conv"])) == ["features.1.skip", "head.0"]
