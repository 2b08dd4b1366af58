"""What stands around vLLM: its build and arguments, and the environment that it reads when it is imported."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from sq.engine import engine_log


def environment(cache_gib: int) -> None:
    """Settings that vLLM reads from the environment when it is imported; what the user has set stays."""
    defaults = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": str(cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "INFO" if os.environ.get(engine_log.FILE) else "ERROR",
        "VLLM_LOGGING_STREAM": f"ext://{engine_log.__name__}.STREAM",
        "VLLM_NO_USAGE_STATS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "GOMP_SPINCOUNT": "1000",
    }
    for key, value in defaults.items():
        os.environ.setdefault(key, value)
    # It replaces distutils, and must have done so before threads import that; where one has begun to, it says so by an
    # assertion, and vLLM imports it later.
    with suppress(ImportError, AssertionError):
        importlib.import_module("setuptools")
    engine_log.take_over("vllm")  # what it says while it is imported, too
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"].upper())
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")


def on_cpu() -> bool:
    """Whether the vLLM that is installed runs on a CPU, as its build says: nothing is imported for it.

    So what coordinates workers, and may have no GPU of its own, knows what they will do.
    """
    return sys.platform == "darwin" or any("cpu" in f"{name} {version}" for name, version in _builds())


def _builds() -> Iterator[tuple[str, str]]:
    for name in ("vllm", "vllm-cpu"):
        with suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)


@lru_cache(maxsize=1)
def engine_arguments() -> dict[str, str]:
    """The fields of the installed vLLM's EngineArgs and their types, read from its source: to import it takes seconds.

    Without vLLM none."""
    spec = importlib.util.find_spec("vllm")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        tree = ast.parse((Path(place) / "engine" / "arg_utils.py").read_text(encoding="utf-8"))
        body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "EngineArgs")
        fields = [node for node in body if isinstance(node, ast.AnnAssign)]
        return {node.target.id: ast.unparse(node.annotation) for node in fields if isinstance(node.target, ast.Name)}
    return {}
