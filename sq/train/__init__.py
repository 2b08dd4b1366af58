"""Training: one file a stage over one Lightning base."""
