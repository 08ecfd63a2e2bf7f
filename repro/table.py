"""A table of text, as Markdown, as CSV and for a terminal of any width."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import fill, wrap
from typing import Final

HEADER: Final = 14  # letters of a line in a column's name
# What a table may hold beside letters, digits and plain punctuation.
WRITTEN: Final = {
    **{"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#"},
    **{"%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"},
    **{"<": r"\ensuremath{<}", ">": r"\ensuremath{>}", "|": r"\textbar{}", '"': "''"},
    **{"±": r"\ensuremath{\pm}", "≠": r"\ensuremath{\neq}", "§": r"\S{}", "¶": r"\P{}"},
    **{"†": r"\dag{}", "‡": r"\ddag{}", "◇": r"\ensuremath{\diamond}"},
    **{
        "△": r"\ensuremath{\triangle}",
        "▽": r"\ensuremath{\bigtriangledown}",
        "‖": r"\ensuremath{\parallel}",
        "µ": r"\ensuremath{\mu}",
        "[": "{[}",
        "]": "{]}",
        "`": r"\textasciigrave{}",
    },
}


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: One line.
        header: Column names, units included.
        lines: As many cells each as the header has.
        notes: Sentences below the table.

    Raises:
        ValueError: A line whose length is not the header's.
    """

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse ragged lines."""
        for line in self.lines:
            if len(line) != len(self.header):
                raise ValueError(f"line {line} needs {len(self.header)} cells as the header has")

    def to_markdown(self) -> str:
        """Return the table for GitHub, columns padded so that a terminal shows it aligned."""
        grid = [[text.replace("|", "\\|") for text in line] for line in (self.header, *self.lines)]
        padded = _padded(grid, 3)
        text = f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in padded)
        for before, note in pairwise(("", *self.notes)):
            in_list = before.startswith("* ") and note.startswith("* ")
            text += f"{note}\n" if in_list else f"\n{note}\n"
        return text

    def to_terminal(self, width: int) -> str:
        """Return the table for a terminal; turned on its side, in parts, if it is too wide.

        Args:
            width: Columns of the terminal, 1 and up; what does not fit even so sticks out.
        """
        upright = _aligned([self.header, *self.lines])
        parts = [upright] if len(upright[1]) <= width else []
        left = list(self.lines)
        while left and parts != [upright]:
            fitting = next(
                (n for n in range(len(left), 1, -1) if len(self._turned(left[:n])[1]) <= width), 1
            )
            parts.append(self._turned(left[:fitting]))
            left = left[fitting:]
        body = "\n\n".join("\n".join(part) for part in parts)
        notes = [fill(note, width, break_long_words=False) for note in self.notes]
        return "\n".join([self.title, "=" * len(self.title), body, "", *notes, ""])

    def _turned(self, lines: Sequence[tuple[str, ...]]) -> list[str]:
        """Return these lines as columns, the header at their left."""
        return _aligned(list(zip(self.header, *lines, strict=True)))

    def to_csv(self) -> str:
        """Return header and lines as comma-separated values; the notes stand in the Markdown.

        Columns have the same names at every tier: the mark ``§`` is left out of them.
        """
        text, header = io.StringIO(), [name.removesuffix(" §") for name in self.header]
        csv.writer(text, lineterminator="\n").writerows([header, *self.lines])
        return text.getvalue()


def _aligned(grid: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a grid as text, see `_padded`."""
    return ["  ".join(line).rstrip() for line in _padded(grid)]


def _padded(grid: Sequence[Sequence[str]], least: int = 0) -> list[list[str]]:
    """Return a grid padded to its columns, with a rule below the first line."""
    widths = [max(least, *map(len, column)) for column in zip(*grid, strict=True)]
    padded = [[t.ljust(w) for t, w in zip(line, widths, strict=True)] for line in grid]
    padded.insert(1, ["-" * width for width in widths])
    return padded


def csv_text(columns: Sequence[str], lines: Iterable[Mapping[str, object]]) -> str:
    """Return lines as CSV with these columns; None is an empty field.

    >>> csv_text(["a", "b"], [{"a": 1, "b": None}]).splitlines()
    ['a,b', '1,']
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def escaped(text: str) -> str:
    r"""Return text as LaTeX prints it, ASCII only.

    Raises:
        ValueError: A character that no rule is known for: add it to `WRITTEN`.

    >>> escaped("30.25 ± 1 % §")
    '30.25 \\ensuremath{\\pm} 1 \\% \\S{}'
    """
    if strange := sorted({c for c in text if c not in WRITTEN and not " " <= c <= "~"}):
        raise ValueError(f"no LaTeX is known for {strange}: add it to repro.table.WRITTEN")
    written = "".join(WRITTEN.get(character, character) for character in text)
    return written.replace("->", r"\ensuremath{\rightarrow}").replace("--", "-{}-")


def latex(table: Table, name: str) -> str:
    r"""Return the table as a ``table`` environment: caption, rules of booktabs, notes below.

    It is scaled down to the width of the text where it is wider, never up. Its label is
    ``tab:<name>``.

    Args:
        table: Any.
        name: Of its file; letters, digits, ``_`` and ``-``.
    """
    # The names of columns stand in short lines, so that these stay narrow.
    short = (r" \\ ".join(map(escaped, wrap(name, HEADER))) for name in table.header)
    header = " & ".join(rf"\shortstack[l]{{{name}}}" for name in short)
    lines = [" & ".join(map(escaped, line)) + r" \\" for line in table.lines]
    notes = [rf"\par {escaped(note)}" for note in table.notes]
    return "\n".join(
        [
            "% Generated from results/rows by python -m repro tables: do not edit.",
            r"% \usepackage{booktabs,graphicx}",
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{escaped(table.title)}}}\label{{tab:{name}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{'l' * len(table.header)}}}",
            r"\toprule",
            header + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}\raggedright\scriptsize",
            *notes,
            r"\end{minipage}",
            r"\end{table}",
            "",
        ]
    )
