"""Models: loading, attention, losses, export."""
