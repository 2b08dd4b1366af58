"""What vLLM makes of exported models, as JSON: `in_vllm.py ROWS CLASSIFIER MODEL ...`."""

import json
import sys


def generate(path):
    """The tokens and the end of a question and of an answer, greedy, and the prompts they were given."""
    from sq.core.chat import ChatFormat
    from sq.engine.base import Request, Sampling
    from sq.engine.vllm import VLLMConfig
    from sq.models.load import ModelConfig, eos_ids, load_tokenizer

    model = ModelConfig(name="trained", path=path, dtype="fp32")
    chat = ChatFormat.from_tokenizer(load_tokenizer(model), eos_ids=eos_ids(model))
    prompts = {"question": chat.question_prefix_ids, "answer": chat.answer_ids("Tom has 3 pens. How many?")}
    stops = {"question": chat.stop_ids, "answer": chat.answer_stop_ids}
    asked = [
        Request(key=key, seed=1, prompt_ids=prompts[key],
                sampling=Sampling(temperature=0, max_tokens=24, stop_token_ids=stops[key]))
        for key in prompts
    ]  # fmt: skip
    engine = VLLMConfig(max_model_len=128, dtype="float32").create(model)
    found = {r.key: [list(r.completions[0].token_ids), r.completions[0].finish_reason] for r in engine.generate(asked)}
    engine.close()
    return found, {key: list(ids) for key, ids in prompts.items()}


def classify(path, rows):
    """The scores of rows of token ids."""
    from vllm import LLM

    llm = LLM(path, runner="pooling", dtype="float32", enforce_eager=True, max_model_len=128)
    scored = llm.encode([{"prompt_token_ids": ids} for ids in json.loads(rows)], pooling_task="classify")
    return [one.outputs.data.flatten().tolist() for one in scored]


if __name__ == "__main__":
    rows, classifier, *models = sys.argv[1:]
    print(json.dumps([[generate(model) for model in models], classify(classifier, rows)]))
