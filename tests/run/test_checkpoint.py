"""A checkpoint is read back by the run and the version that wrote it, and by no other."""

from pathlib import Path
from typing import Any

import pytest
import torch

from repro.errors import UserError
from repro.run.checkpoint import SafeCheckpointIO

CHECKPOINT = {"state_dict": {"w": torch.arange(300.0)}, "epoch": 2}


def saved(folder: Path, config: str = "{}", checkpoint: dict[str, Any] = CHECKPOINT) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config)
    path = folder / "last.ckpt"
    SafeCheckpointIO().save_checkpoint(checkpoint, path)
    return path


def load(path: Path) -> dict[str, Any]:
    return SafeCheckpointIO().load_checkpoint(path)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = saved(tmp_path)
    found = load(path)
    assert found["epoch"] == 2
    assert torch.equal(found["state_dict"]["w"], CHECKPOINT["state_dict"]["w"])
    assert torch.load(path, weights_only=True)["epoch"] == 2  # an archive like all others


@pytest.mark.parametrize(
    "foreign",
    [[1, 2], {"a": 1}, CHECKPOINT, {**CHECKPOINT, "state_dict": {"w": torch.ones(3)}}, 7],
    ids=["a list", "other keys", "unsealed", "other shapes", "a number"],
)
def test_what_torch_reads_and_is_not_ours_is_refused(tmp_path: Path, foreign: object) -> None:
    path = saved(tmp_path)
    torch.save(foreign, path)
    with pytest.raises(UserError, match=r"last\.ckpt is damaged or not of this run .*delete it"):
        load(path)


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path, other = saved(tmp_path / "a"), saved(tmp_path / "b", '{"seed": 1}')
    other.write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="of another run"):
        load(other)
    (tmp_path / "a" / "config.json").write_text("{ }")
    with pytest.raises(UserError, match="of another run"):
        load(path)


def test_every_flipped_bit_that_changes_a_value_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content, found = path.read_bytes(), 0
    for at in range(0, len(content), 11):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        try:
            same = load(path)["state_dict"]["w"]
        except UserError:
            found += 1
        else:  # of the padding between records
            assert torch.equal(same, CHECKPOINT["state_dict"]["w"])
    assert found > len(content) / 11 / 2
    path.write_bytes(content)
    load(path)
