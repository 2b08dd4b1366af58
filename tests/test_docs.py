"""The docs as a site: every link leads somewhere, and what is made for it is made of what there is."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="mkdocs-material is not installed")
def test_the_site_is_built_with_strict_links(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    command += ["-f", str(ROOT / "mkdocs.yml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "reference.html").read_text(encoding="utf-8")
    assert "<code>stage.lr</code>" in reference and "<code>engine.max_failures</code>" in reference
    assert "sq run recipe=demo" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "load_model" in (tmp_path / "tour.html").read_text(encoding="utf-8")


def test_the_reference_has_the_settings_of_dataclasses_in_dataclasses():
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "scripts" / "docs_site.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reference = module.reference_page()
    keys = ["sandbox.wall_seconds", "grader.deadline", "trainer.lora.rank", "model.chat.system", "format.shots.count"]
    keys += ["cluster.patience", "prompt.parser.kind", "stages.NAME.each", "stage.lr", "source.where"]
    assert [key for key in keys if f"\n| `{key}` |" not in reference] == []
