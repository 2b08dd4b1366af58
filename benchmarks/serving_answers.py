"""Five answers to a question as one request of ours, beside five requests of n = 1 to a bare `LLM.generate`.

    python benchmarks/serving_answers.py MODEL_DIR [--questions 12] [--tokens 96] [--top-p 0.95] [--repeats 3]

Questions are of the arithmetic domain with the domain's instruction; every way has the same prompts, sampling and
number of answers, in the same engine, in turn. Rates are answers per CPU second, medians over the repeats.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

from sq.core.chat import ChatFormat
from sq.core.cpu import cpu_has_bf16
from sq.domains.arithmetic import ArithmeticDomain
from sq.engine.base import Request, Sampling
from sq.engine.vllm import VLLMConfig, VLLMEngine
from sq.models.load import ModelConfig, load_tokenizer

ANSWERS = 5
TEMPERATURE = 0.7
INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."


def main() -> None:
    """Run all four ways in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16" if cpu_has_bf16() else "float32")
    asked = parser.parse_args()
    model = ModelConfig(name="model", path=asked.model)
    config = VLLMConfig(dtype=asked.dtype, max_model_len=1024)
    config.prepare()
    engine = config.create(model)
    chat = ChatFormat.from_tokenizer(load_tokenizer(model), model.chat)
    problems = iter(ArithmeticDomain().seeds(10_000, 0, "train"))

    def prompts() -> list[tuple[int, ...]]:  # new ones for each turn, so that nothing is cached from the last
        rows = itertools.islice(problems, asked.questions)
        return [chat.answer_ids(row["question"], instruction=INSTRUCTION) for row in rows]

    ways: dict[str, Callable[[list[tuple[int, ...]]], int]] = {
        "LLM.generate, five of n=1": lambda p: bare(engine, p, asked, 1),
        "LLM.generate, n=5": lambda p: bare(engine, p, asked, ANSWERS),
        "ours, five of n=1": lambda p: ours(engine, p, asked, 1),
        "ours, n=5": lambda p: ours(engine, p, asked, ANSWERS),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn, (name, way) in itertools.product(range(asked.repeats + 1), ways.items()):
        given = prompts()
        begun = time.process_time()
        tokens = way(given)
        if turn:  # the first is to warm up
            rates[name].append(tokens / asked.tokens / (time.process_time() - begun))
    mean = sum(map(len, given)) / len(given)
    print(
        f"{asked.questions} prompts of {mean:.0f} tokens, answers of {asked.tokens}, top-p {asked.top_p}, {asked.dtype}"
    )
    base = rates["LLM.generate, five of n=1"]
    for name, found in rates.items():
        ratios = sorted(r / b for r, b in zip(found, base, strict=True))
        print(f"{name:>26}: {statistics.median(found):6.2f} answers per CPU s, {statistics.median(ratios):.2f}x "
              f"(from {ratios[0]:.2f} to {ratios[-1]:.2f})")  # fmt: skip
    engine.close()


def ours(engine: VLLMEngine, prompts: list[tuple[int, ...]], asked: argparse.Namespace, n: int) -> int:
    """Tokens of five answers to each prompt, by requests of `n`."""
    sampling = Sampling(n=n, temperature=TEMPERATURE, top_p=asked.top_p, max_tokens=asked.tokens)
    requests = (
        Request(key=f"{i}-{j}", seed=ANSWERS * i + j, prompt_ids=prompt, sampling=sampling)
        for i, prompt in enumerate(prompts)
        for j in range(ANSWERS // n)
    )
    return sum(c.tokens for result in engine.generate(requests) for c in result.completions)


def bare(engine: VLLMEngine, prompts: list[tuple[int, ...]], asked: argparse.Namespace, n: int) -> int:
    """The same by vLLM's own front door."""
    from vllm import SamplingParams

    pairs = [
        ({"prompt_token_ids": list(prompt)},
         SamplingParams(n=n, temperature=TEMPERATURE, top_p=asked.top_p, max_tokens=asked.tokens, seed=ANSWERS * i + j))
        for i, prompt in enumerate(prompts)
        for j in range(ANSWERS // n)
    ]  # fmt: skip
    outputs = engine.llm.generate([p for p, _ in pairs], [s for _, s in pairs], use_tqdm=False)
    return sum(len(c.token_ids) for output in outputs for c in output.outputs)


if __name__ == "__main__":
    main()
