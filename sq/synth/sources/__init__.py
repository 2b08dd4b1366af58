"""Where questions come from: one file a source."""
