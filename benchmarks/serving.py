"""Our vLLM step loop beside a bare `LLM.generate`: same prompts, same sampling, same process, in turn.

    python benchmarks/serving.py MODEL_DIR [--prompts 64] [--tokens 64] [--top-p 0.99] [--repeats 3]

Prints tokens per CPU second and per wall second of each, medians over the repeats, and the ratio pair by pair.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from sq.core.cpu import cpu_has_bf16
from sq.engine.base import Request, Sampling
from sq.engine.vllm import VLLMConfig, VLLMEngine
from sq.models.load import ModelConfig


def main() -> None:
    """Run both in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--top-p", type=float, default=0.99)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16" if cpu_has_bf16() else "float32")
    asked = parser.parse_args()
    engine = VLLMConfig(dtype=asked.dtype, max_model_len=512).create(ModelConfig(name="model", path=asked.model))
    assert isinstance(engine, VLLMEngine)
    prompt = tuple(engine.llm.get_tokenizer().apply_chat_template(
        [{"role": "user", "content": "Write a problem."}], add_generation_prompt=True, return_dict=False
    ))  # fmt: skip
    ours, bare = _ours(engine, prompt, asked), _bare(engine, prompt, asked)
    ours(0), bare(0)
    rates = [(_rates(bare, i), _rates(ours, i)) for i in range(1, asked.repeats + 1)]
    print(f"{asked.prompts} prompts, {asked.tokens} tokens each, top-p {asked.top_p}, {asked.dtype}")
    for name, side in (("LLM.generate", 0), ("ours", 1)):
        cpu, wall = (statistics.median(r[side][k] for r in rates) for k in (0, 1))
        print(f"{name:>13}: {cpu:8.0f} tokens per CPU s, {wall:8.0f} tokens/s")
    ratios = sorted(r[1][0] / r[0][0] for r in rates)
    print(f"        ratio: {statistics.median(ratios):.2f} per CPU s (from {ratios[0]:.2f} to {ratios[-1]:.2f})")
    engine.close()


def _ours(engine: VLLMEngine, prompt: tuple[int, ...], asked: argparse.Namespace) -> Callable[[int], int]:
    sampling = Sampling(temperature=1.0, top_p=asked.top_p, max_tokens=asked.tokens)

    def run(turn: int) -> int:
        requests = (
            Request(key=f"{turn}-{i}", seed=turn * 10_000 + i, prompt_ids=prompt, sampling=sampling)
            for i in range(asked.prompts)
        )
        return sum(c.tokens for result in engine.generate(requests) for c in result.completions)

    return run


def _bare(engine: VLLMEngine, prompt: tuple[int, ...], asked: argparse.Namespace) -> Callable[[int], int]:
    from vllm import SamplingParams

    def run(turn: int) -> int:
        params = [
            SamplingParams(temperature=1.0, top_p=asked.top_p, max_tokens=asked.tokens, seed=turn * 10_000 + i)
            for i in range(asked.prompts)
        ]
        prompts = [{"prompt_token_ids": list(prompt)}] * asked.prompts
        outputs = engine.llm.generate(prompts, params, use_tqdm=False)
        return sum(len(c.token_ids) for output in outputs for c in output.outputs)

    return run


def _rates(run: Callable[[int], int], turn: int) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    tokens = run(turn)
    return tokens / (time.process_time() - cpu), tokens / (time.perf_counter() - wall)


if __name__ == "__main__":
    main()
