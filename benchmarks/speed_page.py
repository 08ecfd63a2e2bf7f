"""``python -m benchmarks.speed_page`` writes the measured figures into ``docs/speed.md``.

The page's text is written by hand, its figures come from ``benchmarks/results/*.json`` alone.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.device import PEAK
from repro.files import write_atomically

ROOT: Final = Path(__file__).parent.parent
SUMMARY, FIGURES = "summary", "figures"  # blocks of the page
MEMORY: Final = "peak memory, bytes above the imports"


@dataclass(frozen=True)
class Aim:
    """What a form of a network is to reach on a processor with AMX.

    Attributes:
        faster: Times faster than the plain way, at least.
        memory: Peak memory as a percentage of the plain way's, at most; None for no aim.
    """

    faster: float
    memory: int | None = None

    def memory_in_words(self) -> str:
        """Return the aim of memory, or nothing."""
        return "" if self.memory is None else f"{self.memory} %"


NETWORKS: Final = {
    "stbp": "STBP, 7Conv-3FC",
    "tssl_bp": "TSSL-BP, AlexNet",
    "snn_calibration": "SNN-Calibration, spiking VGG16",
    "surrogate": "surrogate gradient, SEW 7B-Net",
}
AIMS: Final = {
    "stbp": {"float32": Aim(7, 33), "spikes_bf16": Aim(20, 33)},
    "tssl_bp": {"float32": Aim(5, 50), "spikes_bf16": Aim(14, 20)},
    "snn_calibration": {"float32": Aim(2.5, 50), "spikes_bf16": Aim(5, 20)},
    "surrogate": {"float32": Aim(5), "spikes_bf16": Aim(12)},
}


INFERENCE_AIMS: Final = {"binary": "3", "ternary": "2.5"}
DESK_AIMS: Final = {"FP32 control, events": "1.4", "binary, codes and events": "1.8"}
PEER_AIM: Final = "3"
KINDS: Final = ("inference", "training", "desk")


def spread(ratio: dict[str, float], digits: int = 1) -> str:
    """Return median, least and greatest of the rounds' ratios as words."""
    median, low, high = (f"{ratio[name]:.{digits}f}" for name in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def percent_added(ratio: dict[str, float]) -> str:
    """Return what CBP adds to the float32 step as a sentence's end."""
    low, median, high = (100 * (ratio[name] - 1) for name in ("low", "median", "high"))
    return f"CBP adds {median:+.1f} % to the float32 step ({low:+.1f} to {high:+.1f} %)."


def lines_of_aims() -> list[str]:
    """Return the aims as a table."""
    lines = [
        "| network | form | times faster than plain, at least | peak memory, at most |",
        "|---|---|---|---|",
    ]
    for network, forms in AIMS.items():
        for form, aim in forms.items():
            share = aim.memory_in_words().replace("%", "% of plain")
            words = (NETWORKS[network], form, f"{aim.faster:g}", share)
            lines.append(f"| {' | '.join(words)} |")
    return [*lines, ""]


def lines_of_step(step: dict[str, Any], network: str) -> list[str]:
    """Return the table of one batch size."""
    lines = [
        f"Batch {step['batch']}, T {step['time_steps']}, width {step['width']:g}:",
        "",
        "| form | s a step | times faster than plain (range) | aim | peak memory, GB | aim |",
        "|---|---|---|---|---|---|",
    ]
    memory = step[MEMORY]
    for name, seconds in step["seconds"].items():
        ratio = step["times faster than plain"].get(name)
        faster = spread(ratio) if ratio else ""
        share = f" ({100 * memory[name] / memory['plain']:.0f} % of plain)" if ratio else ""
        aim = None if "share of peak" in step else AIMS[network].get(name)  # they are of CPUs
        least, most = (f"{aim.faster:g}", aim.memory_in_words()) if aim else ("", "")
        size = f"{memory[name] / 1e9:.2f}{share}"
        time = f"{seconds:.2f}" if "share of peak" not in step else f"{seconds:.4f}"
        lines.append(f"| {name} | {time} | {faster} | {least} | {size} | {most} |")
    return [*lines, "", percent_added(step["CBP adds"]), "", *lines_of_peak(step)]


def lines_of_peak(step: dict[str, Any]) -> list[str]:
    """Return what of a GPU's peak each form uses; nothing on a CPU."""
    if "share of peak" not in step:
        return []
    shares, host = step["share of peak"], step["seconds of the host"]
    told = [
        f"{name} {100 * share:.1f} % (host {host[name]:.4f} s)" for name, share in shares.items()
    ]
    return [
        f"{step['FLOP a step'] / 1e12:.2f} TFLOP a step; of {PEAK / 1e12:.0f} TFLOP/s, and seconds "
        f"that the host alone takes: {', '.join(told)}.",
        "",
    ]


def lines_of_peers(step: dict[str, Any], versions: dict[str, str]) -> list[str]:
    """Return the table of a step without CBP beside other libraries' at one precision.

    Args:
        step: One precision.
        versions: By library.
    """
    lines = [
        f"Other libraries, without CBP, {step['form']}, batch {step['batch']}, "
        f"T {step['time_steps']}, width {step['width']:g}:",
        "",
        "| library | s a step | times the seconds of ours (range) | peak memory, GB |",
        "|---|---|---|---|",
    ]
    for name, seconds in step["seconds"].items():
        ratio = step["times the seconds of ours"].get(name)
        words = [f"{name} {versions[name]}" if ratio else name, f"{seconds:.2f}"]
        words += [spread(ratio) if ratio else "", f"{step[MEMORY][name] / 1e9:.2f}"]
        lines.append(f"| {' | '.join(words)} |")
    return [*lines, ""]


def lines_of_search(search: dict[str, Any]) -> list[str]:
    """Return the table of a threshold search."""
    lines = [
        f"Batch {search['batch']}, T {search['time_steps']}, width {search['width']:g}: "
        f"{search['values'] / 1e6:.1f} million activations, the same thresholds.",
        "",
        "| way | s |",
        "|---|---|",
    ]
    lines += [f"| {name} | {seconds:.3g} |" for name, seconds in search["seconds"].items()]
    return [*lines, "", f"Times faster (least to most): {spread(search['times faster'])}.", ""]


def lines_of_data(data: dict[str, Any]) -> list[str]:
    """Return the table of reading and binning recordings."""
    lines = [
        f"{data['recordings']} recordings of {data['events']:,} random events, 128x128, "
        f"T {data['time_steps']}, batch {data['batch']}, {data['rounds']} rounds. Cold: from the "
        "files to a full cache; warm: from the cache to batches.",
        "",
        "| | recordings/s |",
        "|---|---|",
    ]
    lines += [f"| {name} | {rate:,.0f} |" for name, rate in data["recordings per second"].items()]
    ratios = (f"{state} {spread(ratio)}" for state, ratio in data["times faster"].items())
    return [*lines, "", f"Times faster than tonic's own cache (range): {', '.join(ratios)}.", ""]


def lines_of_desk_step(step: dict[str, Any]) -> list[str]:
    """Return the table of a training step of the desk tier."""
    names = ["form", "s a step", "times faster, by processor time (range)", "by the clock (range)"]
    names += ["of a matrix product's operations per second"]
    rates, gradients = (
        f"{min(parts.values()):.2f} to {max(parts.values()):.2f}"
        for parts in (step["spikes per neuron and step"], step["part of the gradient not 0"])
    )
    lines = [
        f"`{step['network']}`, batch {step['batch']}. From layer to layer {rates} spikes per "
        f"neuron and step, and {gradients} of the gradients at the outputs are not 0. Operations "
        "are counted as if every product were dense.",
        "",
        f"| {' | '.join(names)} |",
        "|---" * len(names) + "|",
    ]
    for form, seconds in step["seconds of a step, least"].items():
        faster = [
            step[f"times faster, {by}"].get(form) for by in ("by processor time", "by the clock")
        ]
        words = [form, f"{seconds:.3f}", *(spread(ratio, 2) if ratio else "" for ratio in faster)]
        words.append(f"{step['roofline']['share of it'][form]:.2f}")
        lines.append(f"| {' | '.join(words)} |")
    if parts := step.get("part of the dense step, by processor time"):
        told = [f"{kind} {part:.2f}" for kind, part in parts.items()]
        lines += [
            "",
            f"Parts of the FP32 control's step that are dense products: {', '.join(told)}.",
        ]
    if peers := step.get("times as fast as spikingjelly"):
        told = [f"{form} {spread(ratio, 2)}" for form, ratio in peers.items()]
        which = f"spikingjelly {step['versions']['spikingjelly']}"
        lines += ["", f"Times as fast as the FP32 control with {which}: {', '.join(told)}."]
    return [*lines, ""]


def lines_of_full_width(result: dict[str, Any]) -> list[str]:
    """Return the table of what the paper's networks cost."""
    names = ["cell", "precision", "arithmetic", "GFLOP an image", "training, s an image"]
    names += ["evaluation, s an image", "epochs", "s an epoch", "hours"]
    lines = [
        f"Runs of the {result['tier']} tier by a few real batches, evaluation of every epoch "
        "included. A conversion trains nothing: its time is that of evaluating its steps.",
        "",
        f"| {' | '.join(names)} |",
        "|---" * len(names) + "|",
    ]
    cells = (
        [f"{each[name]:,}" if isinstance(each[name], int | float) else each[name] for name in names]
        for each in result["full width"]
    )
    return [*lines, *(f"| {' | '.join(line)} |" for line in cells), ""]


def lines_of_result(result: dict[str, Any]) -> list[str]:
    """Return all that one measurement found."""
    lines: list[str] = []
    if search := result.get("threshold search"):
        lines += lines_of_search(search)
    if "full width" in result:
        lines += lines_of_full_width(result)
    if desk := result.get("desk step"):
        lines += lines_of_desk_step(desk)
    if data := result.get("data"):
        lines += lines_of_data(data)
    if waiting := result.get("waiting"):
        lines += [
            f"A desk-tier training loop (simulated CIFAR10-DVS, {waiting['batches']} steps) waits "
            f"for its batches {100 * waiting['share']:.1f} % of its time.",
            "",
        ]
    for step in result.get("steps", []):
        lines += lines_of_step(step, network_of(result))
    if rates := result.get("spikes per neuron and step"):
        lines += rates_in_words(rates)
    for inference in result.get("inference", []):
        lines += lines_of_inference(inference, result["file, bytes"])
    for step in result.get("peers", []):
        lines += lines_of_peers(step, result["versions"])
    for step in result.get("CBP adds", []):
        lines += [
            f"Without the plain way, batch {step['batch']}, {step['rounds']} rounds: "
            f"{percent_added(step['ratio'])}",
            "",
        ]
    if gradients := result.get("gradients, float32 against plain"):
        lines += [
            "Gradients of float32 against the plain way: largest difference "
            f"{100 * gradients['relative']:.2g} % of a tensor's norm, least cosine "
            f"{gradients['least cosine']:.4f}.",
            "",
        ]
    return lines


def lines_of_inference(inference: dict[str, Any], sizes: dict[str, int]) -> list[str]:
    """Return the table of one batch size of packed and FP32 weights.

    Args:
        inference: One batch size.
        sizes: Bytes of the files, by precision.
    """
    lines = [
        f"Inference, batch {inference['batch']}, T {inference['time_steps']}, width "
        f"{inference['width']:g}, {inference['rounds']} rounds:",
        "",
        "| weights | images/s | times the speed of FP32 (range) | file, MB "
        "| peak memory, MB | after loading, MB | outputs against the unpacked file |",
        "|---|---|---|---|---|---|---|",
    ]
    for form, rate in inference["images per second"].items():
        ratio = inference["times the speed of FP32"].get(form)
        peaks = (inference[MEMORY][form], inference["peak memory after loading"][form])
        words = [form, f"{rate:.2f}", spread(ratio, 2) if ratio else ""]
        words += [f"{size / 1e6:.1f}" for size in (sizes[form.partition(", ")[0]], *peaks)]
        words.append(inference["outputs against the unpacked file"].get(form, ""))
        lines.append(f"| {' | '.join(words)} |")
    by_processor = inference["times the speed of FP32, by processor time"].items()
    shares = inference["roofline"]["share of it"].items()
    return [
        *lines,
        "",
        "By processor time: "
        + ", ".join(f"{form} {spread(ratio, 2)} times" for form, ratio in by_processor)
        + ". Operations per second, as if every product were dense, by those of a large matrix "
        + "product: "
        + ", ".join(f"{form} {share:.2f}" for form, share in shares)
        + ".",
        "",
    ]


def rates_in_words(rates: dict[str, dict[str, float]]) -> list[str]:
    """Return the firing rates of both forms, lowest and highest layer."""
    said = [f"{form} {min(r.values()):.2f} to {max(r.values()):.2f}" for form, r in rates.items()]
    return [f"Spikes per neuron and step, from layer to layer: {', '.join(said)}.", ""]


def network_of(result: dict[str, Any]) -> str:
    """Return the method of a step's result; the first results had STBP alone and do not say."""
    return str(result.get("network", "stbp"))


def figures(results: Path) -> str:
    """Return aims and every result of a folder as Markdown, in the order of the file names."""
    lines = lines_of_aims()
    for path in sorted(results.glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        where = result["environment"]
        titles = {
            "threshold search": "Threshold search of VGG16",
            "desk step": "A training step of the desk tier",
            "data": "Recordings to frames",
            "waiting": "Waiting for frames",
            "full width": "The paper's networks at full width",
        }
        other = [title for name, title in titles.items() if name in result]
        what = other[0] if other else NETWORKS[network_of(result)]
        place = f"{result['device']}; {where['cpu']}" if "device" in result else where["cpu"]
        lines += [
            f"### {what}: {place}, {where['cores']} cores, {', '.join(where['flags'])}",
            "",
            f"`{path.name}`: {where['threads']} threads, torch {where['torch']}, "
            f"{where['malloc']}.",
            "",
            *lines_of_result(result),
        ]
    return "\n".join(lines)


def shortly(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return what a result says in short: what runs, beside what, times faster, aim."""
    found = []
    more = ", memory kept" if "MALLOC" in result["environment"]["malloc"] else ""
    flags = " ".join(result["environment"]["flags"])
    more += ", AMX" if "amx" in flags else ", AVX2" if "avx512" not in flags else ""
    for step in result.get("inference", []):
        for form, aim in INFERENCE_AIMS.items():
            what = f"inference, {form}: {NETWORKS[network_of(result)]}"
            size = f", T {step['time_steps']}, batch {step['batch']}"
            ratio = step["times the speed of FP32"][form]
            found.append((what + size, "FP32 weights", spread(ratio), aim))
    for step in result.get("steps", []):
        if "share of peak" in step:  # of a GPU
            continue
        for form, told in AIMS[network := network_of(result)].items():
            name = f"{NETWORKS[network]}, batch {step['batch']}{more}"
            ratio = step["times faster than plain"][form]
            what = f"training step, binary, {form}: {name}"
            found.append((what, "the plain way", spread(ratio), f"{told.faster:g}"))
    for step in result.get("peers", []):
        for name, ratio in step["times the seconds of ours"].items():
            what = f"training step, FP32, {step['form']}: {NETWORKS[network_of(result)]}"
            found.append((what, name, spread(ratio), PEER_AIM))
    if desk := result.get("desk step"):
        name = desk["network"].removeprefix("model:") + more
        for form, aim in DESK_AIMS.items():
            ratio = desk["times faster, by the clock"][form]
            beside = f"{form.partition(',')[0]}, dense"
            found.append((f"desk training step, {form}: {name}", beside, spread(ratio), aim))
        for form, ratio in desk.get("times as fast as spikingjelly", {}).items():
            what = f"desk training step, {form}: {name}"
            found.append((what, "spikingjelly, FP32 control", spread(ratio), PEER_AIM))
    return found


def summary(results: Path) -> str:
    """Return the ratios of a folder's results as one table, inference first."""
    paths = sorted(results.glob("*.json"))
    found = [words for path in paths for words in shortly(json.loads(path.read_text("utf-8")))]
    found.sort(key=lambda words: KINDS.index(words[0].split()[0].rstrip(",")))
    lines = ["| what runs | beside | times faster (range) | aim |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(words)} |" for words in found), ""])


def main() -> int:
    """Rewrite the blocks between the marks."""
    page = ROOT / "docs" / "speed.md"
    text = page.read_text("utf-8")
    for name, write in ((SUMMARY, summary), (FIGURES, figures)):
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(start, 1)
        block = write(ROOT / "benchmarks" / "results")
        text = f"{before}{start}\n{block}\n{end}{rest.split(end, 1)[1]}"
    write_atomically(page, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
