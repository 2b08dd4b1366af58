"""Measure a model: python evaluate.py model=tiny benchmark=[arithmetic] (see --help)."""

from sq.core.entry import main
from sq.eval.config import EvalJob

if __name__ == "__main__":
    main("evaluate", EvalJob, __doc__)
