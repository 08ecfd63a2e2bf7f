"""From what a run found to its row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.base import DataModule
from repro import memory, packing
from repro.build import build_network
from repro.cbp.levels import Levels
from repro.cbp.settings import CbpSettings
from repro.device.machine import device_in_words
from repro.networks.convolution import to_channels_last_
from repro.provenance import commit_in_words, versions
from repro.recipes.spec import RunSpec
from repro.results.row import Row, pack_correct
from repro.run.conversion import Converted
from repro.run.evaluation import (
    compute_in_codes_,
    firing_rates,
    load_weights,
    right_answers,
)
from repro.run.history import History
from repro.run.parent import Parent, parent_fields


def make_row(
    spec: RunSpec,
    data: DataModule,
    file: Path,
    parent: Parent | None,
    devices: int,
    found: Mapping[str, Any],
) -> Row:
    """Load the saved file into a fresh network, evaluate that, and gather everything in a row.

    ``found`` are `history_fields` or `conversion_fields`.
    """
    state, levels = packing.unpack(file)
    key = spec.key
    network = build_network(key.cell, spec.recipe, data.classes, spec.phase)
    load_weights(network, state, str(file))
    to_channels_last_(network)
    counted = memory.count(
        network, {name.removesuffix(".weight"): layer.bits for name, layer in levels.items()}
    )
    compute_in_codes_(network, levels)
    correct = right_answers(network, data)
    return Row(
        method=key.cell.method,
        dataset=key.cell.dataset,
        network=key.cell.network,
        precision=key.precision,
        seed=key.seed,
        tier=key.tier,
        recipe=spec.values,
        recipe_hash=spec.hash,
        versions=versions(),
        device=device_in_words(devices),
        data_checksum=data.checksum,
        data=spec.recipe.data,
        train_images=data.size("train"),
        val_images=data.size("val"),
        test_images=data.size("test"),
        skipped=data.skipped or None,
        accuracy_file=float(correct.mean()),
        **vars(counted),
        file_bytes=file.stat().st_size,
        correct=pack_correct(correct),
        level_scale=mean_scale(state, levels),
        firing_rates=firing_rates(network, data) or None,
        **found,
        **parent_fields(parent, correct),
    )


def mean_scale(state: Mapping[str, Tensor], levels: Mapping[str, Levels]) -> float | None:
    """Return the mean scale of the levels over the quantised weights; None if there are none."""
    counts = {name: state[name].numel() for name in levels}
    scales = {name: float(each.values().amax(-1).mean()) for name, each in levels.items()}
    weights = sum(counts.values())
    return (
        sum(scales[name] * count for name, count in counts.items()) / weights if weights else None
    )


def origin_fields(data: DataModule, parent: Parent | None) -> dict[str, Any]:
    """Return the fields of a row that say where it comes from, as known before the training."""
    above: dict[str, str | None] = {"parent": None, "parent_file_sha256": None}
    if parent is not None:
        above = {"parent": str(parent.row.key), "parent_file_sha256": parent.sha256}
    return {**commit_fields([commit_in_words()]), "data_checksum": data.checksum, **above}


def commit_fields(commits: Sequence[str]) -> dict[str, Any]:
    """Return the commit that trained; several, after a resume, count as a tree with changes."""
    return {
        "git_sha": commits[-1].removesuffix("+changes"),
        "git_dirty": commits[-1].endswith("+changes") or len(commits) > 1,
    }


def history_fields(history: History, spec: RunSpec) -> dict[str, Any]:
    """Return the fields of a row that the epochs tell; epochs are counted from 0."""
    epochs, selected = history.epochs, history.selected
    best = max(epochs, key=lambda epoch: epoch["test_accuracy"])
    return {
        **commit_fields(history.commits),
        "epochs": spec.epochs,
        "epochs_done": len(epochs),
        "wall_seconds": round(history.seconds, 1),
        "accuracy_last": epochs[-1]["test_accuracy"],
        "accuracy_best_test": best["test_accuracy"],
        "accuracy_selected": selected["test_accuracy"],
        "epoch_best_test": int(best["epoch"]),
        "epoch_selected": int(selected["epoch"]),
        "accuracy_val_selected": selected["val_accuracy"],
        "epoch_lr_drop": lr_drop(epochs, spec.recipe.cbp) if "g" in selected else None,
        "cfs_first": epochs[0].get("cfs"),
        "cfs_last": epochs[-1].get("cfs"),
        "cfs_selected": selected.get("cfs"),
        "g_selected": int(selected["g"]) if "g" in selected else None,
    }


def lr_drop(epochs: Sequence[Mapping[str, float]], cbp: CbpSettings) -> int | None:
    """Return the first epoch, from 0, that begins with a learning rate that g has lowered, or None.

    Schedules and warm-ups change the rate, too: g tells.
    """
    if not (cbp.lr_drop_at_g and cbp.window):
        return None
    ended = (int(e["epoch"]) for e in epochs[:-1] if e["g"] >= cbp.lr_drop_at_g)
    return next((epoch + 1 for epoch in ended), None)


def conversion_fields(converted: Converted) -> dict[str, Any]:
    """Return the same fields of a conversion: no epoch was trained, so all accuracies are one."""
    accuracy = list(converted.accuracies.values())[-1]
    names = ("accuracy_last", "accuracy_best_test", "accuracy_selected")
    nothing = ("epochs", "epochs_done", "epoch_best_test", "epoch_selected")
    return {
        **commit_fields([converted.commit]),
        **dict.fromkeys(names, accuracy),
        **dict.fromkeys(nothing, 0),
        "accuracy_val_selected": converted.accuracy_val,
        "wall_seconds": round(converted.seconds, 1),
        "cfs_first": None,
        "cfs_last": None,
        "conversion": converted.accuracies,
    }
