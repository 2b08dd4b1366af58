"""Synthesis: stages that turn rows into rows, exactly once."""
