"""Draw how latent weights gather at the levels, from what CBP runs record.

``python examples/latent_weights.py FIGURE RUN_FOLDER...`` draws a panel for every run folder (its
``latent.csv``): histograms of weight over scale, of all quantised layers together; heights are
roots of shares, each epoch with its own scale.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt

LEVELS = {"binary": (-1, 1), "ternary": (-1, 0, 1)}
COLOURS = {"binary": "#0072b2", "ternary": "#d55e00"}
RIDGES = 5


def read(file: Path) -> tuple[list[float], dict[int, list[float]]]:
    """Return the centres of the bins, and by epoch the share of weights in each bin."""
    with file.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    counts: dict[int, list[float]] = defaultdict(lambda: [0.0] * (len(header) - 3))
    for epoch, _, _, *found in rows:
        counts[int(epoch)] = [a + float(b) for a, b in zip(counts[int(epoch)], found, strict=True)]
    return [float(name) for name in header[3:]], {
        epoch: [count / sum(found) for count in found] for epoch, found in counts.items()
    }


def chosen(epochs: list[int]) -> list[int]:
    """Return epoch 0 and later ones, each about three times as late as the one before."""
    wanted = [0, *(epochs[-1] / 3**n for n in reversed(range(RIDGES - 1)))]
    return sorted({min(epochs, key=lambda epoch: abs(epoch - time)) for time in wanted})


def draw(folders: list[Path], out: Path) -> None:
    """Draw one panel for each run folder."""
    plt.rcParams["font.size"] = 8
    figure, panels = plt.subplots(
        1, len(folders), figsize=(3.6 * len(folders), 2.4), squeeze=False, layout="constrained"
    )
    for panel, folder in zip(panels[0], folders, strict=True):
        centres, shares = read(folder / "latent.csv")
        kind = next(name for name in LEVELS if f"-{name}-" in folder.name)
        epochs = chosen(sorted(shares))
        for level in LEVELS[kind]:
            panel.axvline(level, color="#888888", linestyle="--", linewidth=0.8, zorder=0)
        for place, epoch in enumerate(reversed(epochs)):
            heights = [share**0.5 for share in shares[epoch]]  # root: thin tails stay visible
            tops = [place + 0.85 * height / max(heights) for height in heights]
            panel.fill_between(centres, place, tops, step="mid", color=COLOURS[kind], linewidth=0)
        panel.set(
            title=kind, xlim=(-2.6, 2.6), ylim=(0, len(epochs)), xlabel="latent weight / scale"
        )
        named = [f"epoch {epoch}" if epoch else "before CBP" for epoch in reversed(epochs)]
        panel.set_yticks([place + 0.2 for place in range(len(epochs))], named)
        panel.tick_params(axis="y", length=0)
        panel.spines[["left", "top", "right"]].set_visible(False)
    figure.savefig(out, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    draw([Path(folder) for folder in sys.argv[2:]], Path(sys.argv[1]))
