"""Tables as LaTeX: well-formed for any text, and what a TeX engine sets where there is one."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from paths import ROOT

from repro.report.tier_rows import MARKS
from repro.table import WRITTEN, Table, escaped, latex

COMMITTED = sorted((ROOT / "results").glob("*.tex"))
NASTY = "".join(WRITTEN) + " a--b -> 10^6 \\input{x} 50% $x_1$ [h] #1 & ~"
KNOWN = (
    *("begin", "end", "centering", "caption", "label", "resizebox", "ifdim", "width", "linewidth"),
    *("else", "fi", "toprule", "midrule", "bottomrule", "par", "smallskip", "raggedright"),
    *("scriptsize", "shortstack", "ensuremath", "pm", "neq", "diamond", "triangle"),
    *("bigtriangledown", "mu", "parallel"),
    *("rightarrow", "textbackslash", "textasciicircum", "textasciitilde", "textasciigrave"),
    *("textbar", "dag", "ddag", "S", "P"),
)


def problems(text: str) -> list[str]:
    """What a TeX engine would stop at, found by looking at every letter and control sequence."""
    found = [f"{c!r} is no ASCII" for c in text if not c.isascii()]
    bare = re.sub(r"(?m)^%.*$|%$", "", text)
    names = re.findall(r"\\([A-Za-z]+)", bare)
    found += [f"\\{name} is unknown" for name in names if name not in KNOWN]
    rest = re.sub(r"\\[A-Za-z]+|\\.", " ", bare)  # escaped characters are gone now
    rest = re.sub(r"\{l+\}", " ", rest)
    depth = 0
    for character in rest:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            found.append("a brace closes nothing")
            break
    found += ["a brace stays open"] * (depth > 0)
    found += [f"{c} is bare" for c in "$#^_~%" if c in rest]
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
        if kind == "begin":
            stack.append(name)
        elif not stack or stack.pop() != name:
            found.append(f"{name} ends, but did not begin")
    columns = [len(each) for each in re.findall(r"\\begin\{tabular\}\{(l+)\}", bare)]
    lines = [line for line in bare.splitlines() if line.endswith(r" \\")]
    if {line.replace(r"\&", "").count("&") + 1 for line in lines} - set(columns):
        found.append("a line with another number of cells")
    return found + [f"{name} does not end" for name in stack]


def without_label(text: str) -> str:
    """A label may hold what text may not."""
    return re.sub(r"\\label\{[\w:-]*\}", "", text)


def test_any_text_is_written_as_letters_and_known_commands() -> None:
    table = Table(NASTY, (NASTY, "b"), ((NASTY, "1"), ("[2pt]", "2")), (NASTY,))
    text = without_label(latex(table, "nasty_table-1"))
    assert problems(text) == []
    assert r"\label{tab:nasty_table-1}" in latex(table, "nasty_table-1")
    assert escaped("\\input{x}") == r"\textbackslash{}input\{x\}"


@pytest.mark.parametrize(
    "wrong", ["a_b", "50 $", "{", "}", "\\alpha", "±", r"\begin{table}", "a & b & c \\\\"]
)
def test_bad_latex_is_found(wrong: str) -> None:
    table = latex(Table("t", ("a", "b"), (("1", "2"),)), "t")
    assert problems(without_label(table)) == []
    assert problems(without_label(table.replace("1 & 2 \\\\", f"1 & 2 \\\\\n{wrong}"))) != []


def test_an_unknown_character_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"no LaTeX is known for \['雪'\]: add it"):
        escaped("snow 雪")
    assert all(mark in WRITTEN for mark in MARKS)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_tables_are_well_formed(path: Path) -> None:
    text = path.read_text("utf-8")
    assert problems(without_label(text)) == []
    assert path.with_suffix(".csv").exists()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_a_tex_engine_sets_every_table(tmp_path: Path) -> None:
    nasty = latex(Table(NASTY, (NASTY, "b"), (("[2pt]", "1"), (NASTY, "2")), (NASTY,)), "nasty")
    (tmp_path / "nasty.tex").write_text(nasty)
    inputs = "".join(rf"\input{{{path}}}\clearpage" for path in [*COMMITTED, "nasty.tex"])
    document = (
        r"\documentclass{article}\usepackage{booktabs,graphicx}"
        rf"\begin{{document}}{inputs}\end{{document}}"
    )
    (tmp_path / "all.tex").write_text(document)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False)
    log = done.stdout.decode("latin-1")
    assert done.returncode == 0, log[-2000:]
    assert "Float too large" not in log
    pages = re.search(r"Output written on all\.pdf \((\d+) pages", log)
    assert pages is not None
    assert int(pages[1]) == len(COMMITTED) + 1
    (tmp_path / "nasty.tex").write_text(nasty.replace(r"\bottomrule", "a & b & c"))
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode != 0
