"""Whether TRL takes the three kinds of dataset of `sq build` as they are: one step of its trainer on each.

    python benchmarks/dataset_trl.py MODEL SFT_DIR PREFERENCE_DIR RLVR_DIR     # in an environment with TRL

MODEL is a directory of a small model with a chat template, such as one that `train.py` has written.
"""

import argparse
import tempfile
from typing import Any

from datasets import load_dataset


def right(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    """1 where the verifiable answer is in what the model said."""
    return [float(truth in said[0]["content"]) for said, truth in zip(completions, answer, strict=True)]


def main() -> None:
    import trl

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "sft", "preference", "rlvr"):
        parser.add_argument(name)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        given = {"max_steps": 1, "report_to": [], "use_cpu": True, "bf16": False, "save_strategy": "no",
                 "output_dir": directory, "per_device_train_batch_size": 2}  # fmt: skip
        sft, dpo, grpo = trl.SFTConfig(**given), trl.DPOConfig(**given), trl.GRPOConfig(
            num_generations=2, max_completion_length=16, **given
        )  # fmt: skip
        for kind, trainer, more in (
            ("sft", trl.SFTTrainer, {"args": sft}),
            ("preference", trl.DPOTrainer, {"args": dpo}),
            ("rlvr", trl.GRPOTrainer, {"args": grpo, "reward_funcs": right}),
        ):
            rows = load_dataset(getattr(asked, kind), split="train")
            done = trainer(model=asked.model, train_dataset=rows, **more).train()
            print(
                f"{kind}: {trainer.__name__} of TRL {trl.__version__}, {len(rows)} rows, loss {done.training_loss:.6f}"
            )


if __name__ == "__main__":
    main()
