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
        ({"layers": ["features.*"]}, INNER[:3]),
        ({"layers": ["*.conv", "head.*"]}, [*INNER[:2], "head.0"]),
        ({"layers": ["features.[01].conv"], "exclude": ["*.1.*"]}, INNER[:1]),
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
        ({"layers": ["stem"]}, "leaves no layer"),
        ({"exclude": ["features.*", "head.0"]}, "leaves no layer"),
        ({"layers": "features.*"}, r"give a list"),
    ],
)
def test_patterns_without_effect_are_errors(arguments: dict[str, list[str]], wrong: str) -> None:
    with pytest.raises(UserError, match=wrong):
        choose_layers(network(), **arguments)


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
