"""Run a notebook's cells in one namespace, in the directory one is in; `--write` keeps what they print.

python scripts/notebook.py docs/tour.ipynb
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--write", action="store_true", help="put the outputs into the notebook")
    parsed = parser.parse_args()
    path = parsed.notebook.resolve()
    document = json.loads(path.read_text(encoding="utf-8"))
    run(document)
    if parsed.write:
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def run(document: dict[str, Any]) -> None:
    """Run every code cell, and put its outputs in it. What a cell raises ends the run."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    codes = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(codes, 1):
        printed, value = _run_cell("".join(cell["source"]), f"<cell {number}>", namespace)
        outputs: list[dict[str, Any]] = []
        if printed:
            outputs.append({"name": "stdout", "output_type": "stream", "text": printed.splitlines(keepends=True)})
        if value is not None:
            text = repr(value).splitlines(keepends=True)
            result = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
            outputs.append({**result, "data": {"text/plain": text}})
        cell |= {"execution_count": number, "outputs": outputs}


def _run_cell(source: str, name: str, namespace: dict[str, Any]) -> tuple[str, Any]:
    """What a cell prints, and the value of the expression that it ends with."""
    tree = ast.parse(source, name)
    end = tree.body[-1] if tree.body else None
    last = end if isinstance(end, ast.Expr) else None
    if last:
        tree.body.pop()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), namespace)
        value = eval(compile(ast.Expression(last.value), name, "eval"), namespace) if last else None
    return printed.getvalue(), value


if __name__ == "__main__":
    main()
