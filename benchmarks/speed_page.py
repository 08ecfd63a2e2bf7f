"""``python -m benchmarks.speed_page`` writes the measured figures into ``docs/speed.md``.

The page's text is written by hand, its figures come from ``benchmarks/results/*.json`` alone.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from repro.rows import write_atomically

ROOT: Final = Path(__file__).parent.parent
START: Final = "<!-- figures -->\n"
END: Final = "<!-- /figures -->"
MEMORY: Final = "peak memory, bytes above the imports"


def lines_of(step: dict[str, Any]) -> list[str]:
    """Return the table of one batch size."""
    lines = [
        f"Batch {step['batch']}, T {step['time_steps']}, width {step['width']:g}:",
        "",
        "| form | s a step | times faster than plain (least to most) | peak memory, GB |",
        "|---|---|---|---|",
    ]
    memory = step[MEMORY]
    for name, seconds in step["seconds"].items():
        ratio = step["times faster than plain"].get(name)
        faster = (
            f"{ratio['median']:.1f} ({ratio['low']:.1f} to {ratio['high']:.1f})" if ratio else ""
        )
        share = f" ({100 * memory[name] / memory['plain']:.0f} % of plain)" if ratio else ""
        lines.append(f"| {name} | {seconds:.2f} | {faster} | {memory[name] / 1e9:.2f}{share} |")
    adds = step["CBP adds"]
    low, median, high = (100 * (adds[name] - 1) for name in ("low", "median", "high"))
    lines += [
        "",
        f"CBP adds {median:+.1f} % to the float32 step ({low:+.1f} to {high:+.1f} %).",
        "",
    ]
    return lines


def figures(results: Path) -> str:
    """Return every result of a folder as Markdown, in the order of the file names."""
    lines: list[str] = []
    for path in sorted(results.glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        where = result["environment"]
        lines += [
            f"### {where['cpu']}, {where['cores']} cores, {', '.join(where['flags'])}",
            "",
            f"`{path.name}`: {where['threads']} threads, torch {where['torch']}, "
            f"{where['malloc']}.",
            "",
        ]
        for step in result.get("steps", []):
            lines += lines_of(step)
        for step in result.get("CBP adds", []):
            low, median, high = (100 * (step["ratio"][n] - 1) for n in ("low", "median", "high"))
            lines += [
                f"Without the plain way, batch {step['batch']}, {step['rounds']} rounds: CBP adds "
                f"{median:+.1f} % to the float32 step ({low:+.1f} to {high:+.1f} %).",
                "",
            ]
        if gradients := result.get("gradients, float32 against plain"):
            lines += [
                "Gradients of float32 against the plain way: largest difference "
                f"{100 * gradients['relative']:.2g} % of a tensor's norm, least cosine "
                f"{gradients['least cosine']:.4f}.",
                "",
            ]
    return "\n".join(lines)


def main() -> int:
    """Rewrite the block between the marks."""
    page = ROOT / "docs" / "speed.md"
    before, rest = page.read_text("utf-8").split(START, 1)
    after = rest.split(END, 1)[1]
    text = figures(ROOT / "benchmarks" / "results")
    write_atomically(page, f"{before}{START}\n{text}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
