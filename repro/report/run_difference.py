"""What differs between two runs: recipe, code, versions, data, figures; and their answers."""

from collections.abc import Mapping
from typing import Any, Final

from repro.report.wording import CHANCE, signed_points
from repro.results.row import Row, flat, unpack_correct
from repro.results.statistics import pair

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "run": ("method", "dataset", "network", "precision", "seed", "tier"),
    "recipe": ("recipe",),
    "code": ("git_sha", "git_dirty", "versions", "device"),
    "data": ("data", "data_checksum", "train_images", "val_images", "test_images", "skipped"),
    "figures": (
        *("epochs_done", "wall_seconds", "accuracy_selected", "accuracy_last", "accuracy_file"),
        *("epoch_selected", "accuracy_val_selected", "cfs_first", "cfs_last", "level_scale"),
        *("epoch_lr_drop", "conversion", "parent", "parent_file_sha256", "accuracy_parent"),
        *("file_bytes", "weights_only_bytes"),
    ),
}
ABSENT: Final = "-"


def differences(one: Row, other: Row) -> dict[str, list[tuple[str, Any, Any]]]:
    """Return name and both values of every field that differs, by the names of `GROUPS`.

    A field that only one of the runs has is ``-`` in the other.
    """
    found = {}
    for group, fields in GROUPS.items():
        left, right = (
            {name: v for field in fields for name, v in flat(getattr(row, field), field)}
            for row in (one, other)
        )
        found[group] = unequal(left, right)
    return {group: lines for group, lines in found.items() if lines}


def unequal(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return name and both values of every entry that differs, `ABSENT` where one has none."""
    names = dict.fromkeys([*left, *right])
    values = [(name, left.get(name, ABSENT), right.get(name, ABSENT)) for name in names]
    return [each for each in values if each[1] != each[2]]


def differences_in_words(one: Row, other: Row) -> str:
    """Return what differs as text: a line a field, then how their answers differ."""
    lines = [f"{one.key} -> {other.key}"]
    for group, fields in differences(one, other).items():
        width = max(len(name) for name, _, _ in fields)
        lines.append(group)
        lines += [
            f"  {name:{width}}  {shown(before)} -> {shown(after)}" for name, before, after in fields
        ]
    if len(lines) == 1:
        lines.append("nothing differs")
    same_images = (one.data_checksum, one.test_images) == (other.data_checksum, other.test_images)
    if not same_images:
        return "\n".join([*lines, "answers: not compared, the test images are not the same"])
    counts = pair(*(unpack_correct(row.correct, row.test_images) for row in (one, other)))
    verdict = "more than" if counts.mcnemar_p < CHANCE else "no more than"
    lines.append(
        f"answers: {signed_points(100 * counts.difference)} points, {verdict} chance explains "
        f"(McNemar p {counts.mcnemar_p:.2g}; right in the first only {counts.parent_only_right}, "
        f"in the second only {counts.child_only_right})"
    )
    return "\n".join(lines)


def shown(value: object) -> str:
    """Return a value as a line shows it: numbers short, checksums by their beginning."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return f"{text[:12]}.." if len(text) >= 40 and text.isalnum() else text
