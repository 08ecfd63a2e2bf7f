"""Commands on packed files, from ``export`` to ``c``."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from repro.cli.parsing import BATCH, DATA, FILE, ROWS, RUNS, parse


@dataclass(frozen=True)
class ExportArguments:
    """Write a run's packed weight file: 1 bit a binary weight, 2 bits a ternary one.

    Attributes:
        run: Run folder, for example runs/stbp-cifar10-binary-desk-s0.
        out: File to write; by default the run's name in this folder.
        epoch: The epoch picked on validation, or the last one.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    epoch: Literal["selected", "last"] = "selected"


@dataclass(frozen=True)
class InspectArguments:
    """Print layers, levels, bytes and ratio of a packed weight file, its checksum verified.

    Attributes:
        file: A file written by export, or model:NAME, one of `python -m repro models`.
    """

    file: Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class InferArguments:
    """Evaluate a cell's packed file on the test images, weights packed until a layer needs them.

    Attributes:
        images: First test images used; 0 for as many as the recipe says.
        compare: Also evaluate the unpacked network as a run does, and compare.
    """

    file: Annotated[Path, *FILE]
    images: int = 0
    batch_size: Annotated[int | None, BATCH] = None
    data_dir: Annotated[Path | None, DATA] = None
    compare: bool = False


@dataclass(frozen=True)
class CostsArguments:
    """Print spikes, synaptic operations, energy estimate and memory per inference of a packed file.

    Attributes:
        images: First test images measured.
        out: Also write the numbers there: JSON, or CSV where the name ends so.
    """

    file: Annotated[Path, *FILE]
    images: int = 100
    batch_size: Annotated[int | None, BATCH] = None
    data_dir: Annotated[Path | None, DATA] = None
    out: Path | None = None


@dataclass(frozen=True)
class NirArguments:
    """Write the network of a packed file as a NIR graph, for other frameworks and chips.

    Weights of quantised layers are whole numbers; scale, bits and levels stand in the metadata.

    Attributes:
        out: File to write; by default the run's name in this folder.
        shape: Of an image or a frame, C H W; by default that of the test images.
        real_weights: Multiply quantised weights by their scale; thresholds are then the same in all
            channels, which snnTorch and spikingjelly require of networks with batch normalisation.
        old: Write a file that nir up to 1.0.4 reads, and sinabs with it.
    """

    file: Annotated[Path, *FILE]
    out: Path | None = None
    shape: tuple[int, ...] = ()
    data_dir: Annotated[Path | None, DATA] = None
    real_weights: bool = False
    old: bool = False


@dataclass(frozen=True)
class QonnxArguments:
    """Write one time step of a packed file's network as QONNX, for FINN and hls4ml.

    Quantised weights are BipolarQuant or IntQuant; what neurons keep from step to step goes in and
    comes out.

    Attributes:
        out: File to write; by default the run's name in this folder.
        shape: Of an image or a frame, C H W; by default that of the test images.
    """

    file: Annotated[Path, *FILE]
    out: Path | None = None
    shape: tuple[int, ...] = ()
    data_dir: Annotated[Path | None, DATA] = None


@dataclass(frozen=True)
class CArguments:
    """Write a network for the C program, and as a C header for a microcontroller.

    Into the folder go network.safetensors, a packed file that cbp_net runs; network.h, the network
    as constants; and the sources of cbp_net.

    Attributes:
        out: Folder to write into.
        images: So many test images are written, too, as images.f32, and their classes.
        shape: Of an image or a frame, C H W; by default that of the test images.
    """

    file: Annotated[Path, *FILE]
    out: Path
    images: int = 0
    shape: tuple[int, ...] = ()
    data_dir: Annotated[Path | None, DATA] = None


@dataclass(frozen=True)
class ModelsArguments:
    """List the models to take home: accuracy of their row, and bytes.

    Attributes:
        keep: First copy models and logs of finished runs of --runs into results/models and
            results/logs.
    """

    keep: bool = False
    runs: Annotated[Path, RUNS] = Path("runs")
    rows: Annotated[Path, ROWS] = Path("results/rows")


def command_models(arguments: Sequence[str]) -> int:
    """List the models to take home; keep those of finished runs."""
    chosen = parse(ModelsArguments, arguments)
    from repro.run.models import in_words, keep, rows_by_name

    rows = rows_by_name(chosen.rows)
    if chosen.keep:
        results = {name: row for name, row in rows.items() if row.tier != "smoke"}
        for name in keep(results, chosen.runs):
            print(f"kept {name}")
    print(in_words(rows))
    return 0


def command_export(arguments: Sequence[str]) -> int:
    """Write a packed file and print what is in it."""
    chosen = parse(ExportArguments, arguments)
    from repro.packing.describe import describe
    from repro.run.export import export

    out = chosen.out or Path(f"{chosen.run.resolve().name}.safetensors")
    print(describe(export(chosen.run, out, chosen.epoch)))
    return 0


def command_inspect(arguments: Sequence[str]) -> int:
    """Print what is in a packed file."""
    chosen = parse(InspectArguments, arguments)
    from repro.packing.describe import describe
    from repro.run.models import located

    print(describe(located(chosen.file)))
    return 0


def command_infer(arguments: Sequence[str]) -> int:
    """Evaluate a packed file and print what came of it."""
    chosen = parse(InferArguments, arguments)
    from repro.deploy.infer import infer_in_words
    from repro.deploy.packed_run import open_cell

    cell = open_cell(chosen.file, chosen.images, chosen.batch_size, chosen.data_dir)
    print(infer_in_words(cell, chosen.compare))
    return 0


def command_costs(arguments: Sequence[str]) -> int:
    """Print what an inference costs; write it where asked to."""
    chosen = parse(CostsArguments, arguments)
    from repro.deploy.costs_report import costs_in_words, measure_cell, require_kind, write_costs
    from repro.deploy.packed_run import open_cell

    require_kind(chosen.out)
    cell = open_cell(chosen.file, chosen.images, chosen.batch_size, chosen.data_dir)
    costs = measure_cell(cell)
    print(costs_in_words(costs, shutil.get_terminal_size().columns))
    if chosen.out is not None:
        write_costs(chosen.out, costs)
    return 0


def command_nir(arguments: Sequence[str]) -> int:
    """Write a NIR graph and say in words what is in it."""
    chosen = parse(NirArguments, arguments)
    from repro.deploy.nir_export import export_nir

    options = {"whole": not chosen.real_weights, "old": chosen.old}
    print(export_nir(chosen.file, chosen.out, chosen.shape, chosen.data_dir, **options))
    return 0


def command_qonnx(arguments: Sequence[str]) -> int:
    """Write one time step as QONNX and say in words what is in it."""
    chosen = parse(QonnxArguments, arguments)
    from repro.deploy.qonnx_export import export_qonnx

    print(export_qonnx(chosen.file, chosen.out, chosen.shape, chosen.data_dir))
    return 0


def command_c(arguments: Sequence[str]) -> int:
    """Write a network for the C program and as a C header; say what memory it needs."""
    chosen = parse(CArguments, arguments)
    from repro.deploy.c_export import export_c

    given = (chosen.file, chosen.out, chosen.images, chosen.shape, chosen.data_dir)
    print(export_c(*given))
    return 0
