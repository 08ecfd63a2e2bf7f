r"""A table as LaTeX, for ``\input`` into any document that loads booktabs and graphicx."""

from textwrap import wrap
from typing import Final

from repro.text_table import Table

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
        "µ": r"\ensuremath{\mu}",
        "[": "{[}",
        "]": "{]}",
        "`": r"\textasciigrave{}",
    },
}


def escaped(text: str) -> str:
    r"""Return text as LaTeX prints it, ASCII only.

    Raises:
        ValueError: A character that no rule is known for: add it to `WRITTEN`.

    >>> escaped("30.25 ± 1 % §")
    '30.25 \\ensuremath{\\pm} 1 \\% \\S{}'
    """
    if strange := sorted({c for c in text if c not in WRITTEN and not " " <= c <= "~"}):
        raise ValueError(f"no LaTeX is known for {strange}: add it to repro.latex.WRITTEN")
    written = "".join(WRITTEN.get(character, character) for character in text)
    return written.replace("->", r"\ensuremath{\rightarrow}").replace("--", "-{}-")


def _stacked(name: str) -> str:
    r"""Return the name of a column in short lines, ``\shortstack``, so that it stays narrow."""
    return r"\shortstack[l]{" + r" \\ ".join(map(escaped, wrap(name, HEADER))) + "}"


def latex(table: Table, name: str) -> str:
    r"""Return the table as a ``table`` environment: caption, rules of booktabs, notes below.

    It is scaled down to the width of the text where it is wider, never up. Its label is
    ``tab:<name>``.

    Args:
        table: Any.
        name: Of its file; letters, digits, ``_`` and ``-``.
    """
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
            " & ".join(map(_stacked, table.header)) + r" \\",
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
