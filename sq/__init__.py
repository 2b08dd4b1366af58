"""sq: large sets of reasoning problems with solutions, from scratch, with small open models."""

__version__ = "0.1.0"
