"""Tables as a LaTeX user compiles them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def missing() -> str:
    """What compiling needs and this machine lacks, if anything."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return "pdflatex is not installed"
    found = subprocess.run(["kpsewhich", "booktabs.sty"], check=False, capture_output=True, timeout=60)
    return "" if found.returncode == 0 else "LaTeX's booktabs is not installed"


def compile_table(table: str, folder: Path) -> Path:
    """The PDF of a document that holds only the table; fails with LaTeX's own words."""
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + table + r"\end{document}"
    (folder / "table.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    return folder / "table.pdf"
