"""Evaluation: extraction, equality, benchmarks, metrics."""
