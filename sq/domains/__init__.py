"""Domains: seeds, prompts, answer checks and benchmarks of one kind of problem."""
