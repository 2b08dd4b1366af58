"""The extractor's version, which says whether a final answer that is kept may be taken: all of its code decides it."""

import ast
import shutil
from pathlib import Path

import pytest

from sq.core import thinking
from sq.core.config import build
from sq.domains.arithmetic import answers
from sq.domains.code import extract as programs
from sq.domains.qa import QAConfig
from sq.eval import extract

SQ = Path(thinking.__file__).parents[1]


def imported(file, seen):
    """The files of `sq` that a file's code needs."""
    seen.add(file)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sq."):
            module = SQ.parent.joinpath(*node.module.split("."))
            for name in [module, *(module / alias.name for alias in node.names)]:
                path = name.with_suffix(".py")
                if path.is_file() and path not in seen:
                    imported(path, seen)
    return seen


@pytest.mark.parametrize("module", [extract, answers, programs], ids=["answers", "boxes", "programs"])
def test_any_change_of_its_code_is_another_extractor(module, tmp_path, monkeypatch):
    for name in ("core", "domains", "eval"):
        shutil.copytree(SQ / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "tiny"))
    version = module.extractor_version.__wrapped__
    first = version()
    for one in {module, thinking}:
        monkeypatch.setattr(one, "__file__", str(tmp_path / Path(one.__file__).relative_to(SQ)))
    assert version() == first, "where the code is does not matter"
    code = imported(SQ / Path(module.__file__).relative_to(tmp_path), set()) - {
        SQ / "core/files.py",
        SQ / "core/errors.py",
    }
    for file in code:
        before = version()
        with (tmp_path / file.relative_to(SQ)).open("a") as copy:
            copy.write("#")
        assert version() != before, file


def test_the_places_that_count_are_part_of_it():
    config = {"name": "x", "seeds": {"input": "x.jsonl"}}
    assert len({build({**config, "extract": e}, QAConfig).create().extractor for e in ("boxed", "stated", "any")}) == 3
