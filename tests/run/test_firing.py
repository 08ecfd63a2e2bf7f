"""Firing rates: against spikes counted in a network written out again, and of every method."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import repro.run.evaluation
from datamodules.base import DataModule
from repro.build import build_network, make_data
from repro.cells import CELLS, Cell, find_cell
from repro.networks.conv7fc3 import StbpNetwork
from repro.neurons.stbp import scan_plain
from repro.recipes.shipped import find_recipe
from repro.run.evaluation import firing_rates

STBP = find_cell("stbp", "cifar10")


def digits(recipe: Any) -> DataModule:
    data = make_data(recipe, 0, None)
    data.setup("fit")
    return data


def small(cell: Cell) -> Any:
    fields = {"width": 0.03125, "time_steps": 2, "test_images": 30, "val_images": 30}
    return dataclasses.replace(find_recipe(cell, "smoke"), batch_size=8, **fields)


def fraction(spikes: Tensor) -> float:
    return float(spikes.double().mean())


def spikes_by_hand(network: StbpNetwork, images: Tensor) -> dict[str, Tensor]:
    """The network's spikes behind each layer, one layer after another."""
    found, inputs, steps = {}, images.unsqueeze(0), 1
    for name, layer in network.named_children():
        flat = inputs.flatten(0, 1)
        flat = flat.flatten(1) if isinstance(layer, nn.Linear) else flat
        current = layer(flat).unflatten(0, (steps, -1))
        steps = network.time_steps
        found[name] = inputs = scan_plain(current, steps, network.neuron)
    return found


@pytest.mark.parametrize("images", [500, 20])
def test_spikes_are_those_of_the_layers(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repro.run.evaluation, "IMAGES", images)
    recipe = dataclasses.replace(small(STBP), gain=4.0)
    data = digits(recipe)
    torch.manual_seed(0)
    network = build_network(STBP, recipe, data.classes, "pretrain")
    assert isinstance(network, StbpNetwork)
    found = firing_rates(network, data)
    batches = [data.on_after_batch_transfer(batch, 0)[0] for batch in data.batches("test")]
    shown = torch.cat(batches)[:images]
    assert len(shown) == min(images, 30)
    with torch.no_grad():
        expected = spikes_by_hand(network, shown)
    assert found == pytest.approx({name: fraction(s) for name, s in expected.items()}, rel=1e-6)
    assert list(found) == [*[f"conv{n}" for n in range(1, 8)], "fc1", "fc2", "fc3"]
    assert 0 < found["conv1"] < 1
    other = {name: fraction(s[:, 1:]) for name, s in expected.items()}
    assert found != pytest.approx(other, rel=1e-6)


def test_an_ann_has_no_spikes_and_its_spiking_network_has() -> None:
    cell = CELLS[-1]
    recipe = small(cell)
    data = digits(recipe)
    torch.manual_seed(0)
    assert firing_rates(build_network(cell, recipe, data.classes, "ann"), data) == {}
    found = firing_rates(build_network(cell, recipe, data.classes, "cbp"), data)
    assert all(0 <= rate <= 1 for rate in found.values())
    assert len(found) > 13  # a convolution each, and averages between them


def test_tssl_bp_fires_behind_its_layers() -> None:
    cell = find_cell("tssl_bp", "cifar10")
    recipe = small(cell)
    data = digits(recipe)
    torch.manual_seed(0)
    found = firing_rates(build_network(cell, recipe, data.classes, "pretrain"), data)
    assert len(found) == 8
    assert any(found.values())
