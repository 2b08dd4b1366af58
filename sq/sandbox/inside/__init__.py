"""What runs in the sandbox's own processes. The standard library alone is imported here: a fork must cost little."""
