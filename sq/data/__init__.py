"""Data: sources, packing, collation."""
