"""What the C program needs of a packed file: the file with instructions, and a header."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from datamodules.base import DataModule
from datamodules.catalogue import DATA_SETS
from repro import packing
from repro.build import build_network, make_data
from repro.cbp.levels import Levels
from repro.deploy.c_header import Header, header_of
from repro.deploy.c_network import program_of, words_of
from repro.deploy.in_order import in_order_, logits_in_order
from repro.deploy.packed_run import PackedCell, origin_of
from repro.errors import UserError
from repro.files import write_atomically
from repro.methods.base import predictions
from repro.packing.channel_scales import SUFFIX
from repro.packing.file import encoded
from repro.run.evaluation import load_weights

INSTRUCTIONS: Final = "network"  # key of the metadata
SOURCES: Final = ("cbp_net.c", "cbp_net.h")
COMPILE: Final = "cc -std=c99 -O2 -ffp-contract=off cbp_net.c -o cbp_net -lm"
CHECK: Final = "./cbp_net network.safetensors images.f32 | diff - classes.txt"


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        file: Packed file with instructions.
        header: Header and memory.
    """

    file: Path
    header: Header


def write_c(
    network: nn.Module,
    state: dict[str, Tensor],
    levels: dict[str, Levels],
    shape: tuple[int, int, int],
    time_steps: int,
    metadata: dict[str, str],
    out: Path,
) -> Written:
    """Write a network, its header and the C program into a folder.

    Args:
        network: One of this program's networks, with its weights.
        state: Its state dict, float32.
        levels: Of the quantised weights, by name of their tensor.
        shape: Of an image or a frame, ``[C, H, W]``.
        time_steps: T.
        metadata: Further metadata of the packed file.
        out: The folder.

    Raises:
        UserError: The C program does not run such a network, or a file cannot be written.
    """
    wrong = [f"{name}, {t.dtype}" for name, t in state.items() if t.dtype == torch.float64]
    if wrong:
        raise UserError(f"{wrong[0]}: the C program computes in float32")
    program = program_of(network, shape, time_steps)
    content = b"".join(bytes(part) for part in encoded(state, levels))
    words = words_of(program, levels, _offsets(content), SUFFIX)
    file = out / "network.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    packing.pack(file, state, levels, {**metadata, INSTRUCTIONS: words})
    title = f"{metadata.get('run', type(network).__name__)}, by python -m repro c"
    header = header_of(program, packing.read(file), title)
    write_atomically(out / "network.h", header.text)
    for name in SOURCES:
        write_atomically(out / name, (files("repro.deploy") / "c" / name).read_bytes())
    return Written(file, header)


def _offsets(content: bytes) -> dict[str, int]:
    """Return the first byte of every tensor in the payload of a packed file."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {name: header[name]["data_offsets"][0] for name in header if name != "__metadata__"}


def export_c(
    source: Path, out: Path, images: int, shape: tuple[int, ...], data_dir: Path | None
) -> str:
    """Write what the C program needs of a packed file; return what that is, in words.

    Args:
        source: Packed file, the folder of a finished run, or ``model:NAME``.
        out: Folder to write into.
        images: So many test images are written, too, and the classes that the packed network gives
            them here, its products added up in the order of the C program.
        shape: Of an input, ``[C, H, W]``; empty for that of the test images.
        data_dir: Data sets; None for CBP_DATA, else ``data``.

    Raises:
        UserError: The source is no packed file of a cell, or C does not run its network.
        DataError: The data are absent or damaged, or fewer than asked for.
    """
    file, spec = origin_of(source)
    cell, recipe = spec.key.cell, spec.recipe
    if images < 0 or len(shape) not in (0, 3):
        raise UserError(f"images {images}, shape {shape}: give 0 or more, and C H W")
    state, levels = packing.unpack(file)
    classes = DATA_SETS[recipe.data].classes
    network = build_network(cell, recipe, classes, spec.phase).eval()
    load_weights(network, state, str(file))
    first: list[tuple[Tensor, Tensor]] = []
    if images or not shape:
        data = make_data(recipe, spec.key.seed, data_dir)
        data.setup("test")
        shown = PackedCell(file, spec, data)
        first = _first(shown, data, max(images, 1))
        shape = tuple(first[0][0].shape[-3:])
    said = {key: text for key, text in packing.metadata(file).items() if key != INSTRUCTIONS}
    size = (shape[0], shape[1], shape[2])
    written = write_c(network, state, levels, size, recipe.time_steps, said, out)
    lines = [
        f"{written.file}: {written.file.stat().st_size:,} bytes, with instructions for cbp_net",
        f"{out / 'network.h'}: constants (flash) {written.header.flash:,} bytes where pointers have"
        f" 4, working memory (RAM) {written.header.ram:,} bytes and {written.header.input_bytes:,} "
        "of the input, without the program's code",
        f"compile in {out}: {COMPILE}",
    ]
    if images:
        lines.append(_write_images(shown, first, out))
    return "\n".join(lines)


def _first(cell: PackedCell, data: DataModule, count: int) -> list[tuple[Tensor, Tensor]]:
    """Return batches of the first test images, so many in all."""
    found, left = [], count
    if data.size("test") < count:
        raise UserError(f"images is {count}, but there are {data.size('test')}")
    for inputs, labels in cell.batches():
        found.append((inputs[:left], labels[:left]))
        left -= len(inputs)
        if left <= 0:
            break
    return found


def _write_images(cell: PackedCell, batches: list[tuple[Tensor, Tensor]], out: Path) -> str:
    """Write inputs as raw float32, and the class of each; say how they compare with PyTorch's."""
    network, _ = cell.load()
    with torch.no_grad():
        own = torch.cat([predictions(network(inputs)) for inputs, _ in batches])
        in_order_(network)
        answers = torch.cat([logits_in_order(network(x)).argmax(1) for x, _ in batches])
    inputs = torch.cat([inputs for inputs, _ in batches]).contiguous()
    write_atomically(out / "images.f32", inputs.numpy().astype("<f4").tobytes())
    write_atomically(out / "classes.txt", "".join(f"{label}\n" for label in answers.tolist()))
    same = int((own == answers).sum())
    return (
        f"classes.txt: {same} of {len(own)} are those of PyTorch's own order of summation, which "
        f"infer gives; all must be those of the C program: {CHECK}"
    )
