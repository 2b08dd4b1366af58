"""sq: large sets of reasoning problems with solutions, from scratch, with small open models.

From Python, on lists of dicts and data sets (`docs/python.md`, `docs/tour.ipynb`):

    import sq
    model = sq.load_model("tiny", engine="hf")
    rows = sq.questions(model, count=100)

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sq.api import Model as Model
    from sq.api import Pipeline as Pipeline
    from sq.api import answers as answers
    from sq.api import evaluate as evaluate
    from sq.api import filter as filter
    from sq.api import grade as grade
    from sq.api import load_model as load_model
    from sq.api import questions as questions
    from sq.api import rejects as rejects
    from sq.api import select as select

__version__ = "0.1.0"
__all__ = ["Model", "Pipeline", "answers", "evaluate", "filter", "grade", "load_model", "questions", "rejects",
           "select", "train"]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "train":
        return importlib.import_module("sq.train")
    if name in __all__:
        return getattr(importlib.import_module("sq.api"), name)
    raise AttributeError(f"module 'sq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class CallablePackage(ModuleType):
    """A package that is called as the function of its name in `sq.api`: `sq.train` is both."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """As the function."""
        return getattr(importlib.import_module("sq.api"), self.__name__.rpartition(".")[2])(*args, **settings)
