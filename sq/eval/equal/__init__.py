"""Whether an answer equals its reference: profile `strict` (ours) and profile `dart` (the paper's evaluator)."""
