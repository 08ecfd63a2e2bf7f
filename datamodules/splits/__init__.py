"""Committed splits: index lists that need no random number generator to be made again."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

SEED = 0
_METHOD = 'generator=lowest-sha256("seed:index")-per-class'


def lowest_ranked(indices: Iterable[int], count: int, seed: int) -> list[int]:
    """Return the ``count`` indices with the lowest sha256 of the text ``seed:index``, ascending.

    >>> lowest_ranked(range(5), count=5, seed=0)
    [0, 1, 2, 3, 4]
    """
    ranked = sorted(indices, key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())
    return sorted(ranked[:count])


def make_split(labels: Tensor, per_class: int, seed: int, skip: int = 0) -> Tensor:
    """Return the sorted indices of ``per_class`` images of every class.

    Within a class the images are ranked by the sha256 of the text ``seed:index``; taken are ranks
    ``skip`` to ``skip + per_class - 1``. No library's generator is involved, so the split can be
    made again in any version and language.

    Args:
        labels: ``[N]`` integers from 0.
        per_class: Images to take of every class.
        seed: Any integer.
        skip: Ranks to leave out, such as those another part took.

    Returns:
        ``[classes * per_class]`` int64, ascending.

    Raises:
        ValueError: A class has too few images.

    >>> make_split(torch.tensor([0, 1, 0, 1]), per_class=2, seed=0).tolist()
    [0, 1, 2, 3]
    """
    chosen: list[int] = []
    for label in range(int(labels.max()) + 1):
        members = torch.nonzero(labels == label).flatten().tolist()
        if len(members) < skip + per_class:
            raise ValueError(f"class {label} has {len(members)} images, not {skip + per_class}")
        members.sort(key=lambda index: hashlib.sha256(f"{seed}:{index}".encode()).digest())
        chosen += members[skip : skip + per_class]
    return torch.tensor(sorted(chosen))


def write_split(path: Path, indices: Tensor, seed: int, method: str = _METHOD) -> None:
    """Write one index a line below a header with seed, generator, count and sha256 of the lines.

    Args:
        path: The file.
        indices: ``[N]`` integers.
        seed: The generator's.
        method: How they were chosen, ``key=value`` words.
    """
    body = "".join(f"{index}\n" for index in indices.tolist())
    digest = hashlib.sha256(body.encode()).hexdigest()
    header = f"# seed={seed} {method} count={len(indices)} sha256={digest}\n"
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(header + body)
    os.replace(temporary, path)


def read_split(path: Path) -> Tensor:
    """Return the indices, ``[N]`` int64, of a file of `write_split`.

    Raises:
        ValueError: The lines do not have the sha256 that the header states.
    """
    header, _, body = path.read_text().partition("\n")
    stated = header.rpartition("sha256=")[2]
    found = hashlib.sha256(body.encode()).hexdigest()
    if found != stated:
        raise ValueError(
            f"{path} was changed: its lines have sha256 {found}, its header says {stated};"
            " restore the committed file"
        )
    return torch.tensor([int(line) for line in body.split()])
