"""What lm-evaluation-harness and Inspect read of ours, and our grader inside them: against the real packages."""

import json
import re
import statistics
from dataclasses import dataclass, field, replace

import pytest
from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.engine.base import Completion, Result, Sampling
from sq.engine.config import EngineConfig
from sq.eval.config import EvalJob
from sq.eval.export import LM_EVAL_RULES, by_lm_eval
from sq.eval.peers import grade_responses, sq_grader
from sq.eval.prompting import RequestBuilder
from sq.models.load import load_tokenizer

OUTPUTS = [
    ("48/2 = 24\n#### 24", "24"),
    ("So it costs $1,234.50 in all.\n#### $1,234.50", "1234.50"),
    ("First #### 3 and then #### 4", "4"),
    ("The answer is 18.", "18"),
    ("It is 18. Or 19, says Tom.", "18"),
    ("\\boxed{1{,}000}", "1000"),
    ("-7 degrees", "-7"),
    ("#### -7", "-7"),
    ("1,2,3...", "3"),
    ("She pays $. Nothing", "0"),
    ("#### 5 apples", "5"),
    ("no number", "5"),
    ("I do not know what to say here", "5"),
    ("#### 0.50", "0.5"),
]
INSPECT = (
    "Inspect is not installed: it takes no fsspec as new as the one in constraints.txt (its 0.3.285: up to 2026.6.0); "
    "docs/evaluation.md has how these tests run in an environment of its own"
)
LM_EVAL = "lm-evaluation-harness is not installed: make setup, or pip install lm-eval==0.4.13"
RIGHT = {"strict": 9, "strict-match": 3, "flexible-extract": 7}


@dataclass(frozen=True, kw_only=True)
class EchoConfig(EngineConfig):
    """Answers problem k by the k-th output; it reads messages, as an endpoint does."""

    reads_ids = False

    def create(self, model):
        return self

    def generate(self, requests):
        for request in requests:
            text = OUTPUTS[int(request.messages[-1]["content"])][0]
            yield Result(key=request.key, completions=(Completion(text=text, finish_reason="stop", tokens=3),))

    def close(self):
        """Nothing to free."""


@dataclass(frozen=True, kw_only=True)
class SampledConfig(EchoConfig):
    """Answers the problem "k" by three samples, the first k of them right; it keeps what it was sent."""

    sent: list = field(default_factory=list)

    def generate(self, requests):
        for request in requests:
            self.sent.append(list(request.messages))
            right = int(re.findall(r"\d+", request.messages[-1]["content"])[-1])
            texts = ["#### 5" if k < right else "#### 6" for k in range(3)]
            completions = tuple(Completion(text=text, finish_reason="stop", tokens=3) for text in texts)
            yield Result(key=request.key, completions=completions)


def evaluate(directory, model, engine, rows, *overrides):
    """An evaluation exported both ways; its directory and its metrics."""
    (directory / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = [
        "benchmark=[gsm8k]", f"++benchmark.gsm8k.path={directory}/problems.jsonl", "tracking=none",
        f"model.path={model}", f"output_dir={directory}/ev", "++grader.workers=1", "++export=[lm-eval,inspect]",
        *overrides,
    ]  # fmt: skip
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        job = replace(build(compose("evaluate", overrides=overrides), EvalJob), engine=engine)
    return directory / "ev", job.run()["gsm8k"]


@pytest.fixture(scope="module")
def evaluated(random_tiny, tmp_path_factory):
    """The answers are the outputs above."""
    rows = [{"question": str(k), "answer": f"Worked.\n#### {reference}"} for k, (_, reference) in enumerate(OUTPUTS)]
    return evaluate(tmp_path_factory.mktemp("evaluated"), random_tiny, EchoConfig(), rows, "format=bare")


def lm_eval_files(directory):
    (results,), (samples,) = (list((directory / "lm-eval/tiny").glob(f"{kind}_*")) for kind in ("results", "samples"))
    return json.loads(results.read_text()), [json.loads(line) for line in samples.read_text().splitlines()]


def test_both_exports_say_what_the_evaluation_says(evaluated):
    directory, figures = evaluated
    results, samples = lm_eval_files(directory)
    log = json.loads((directory / "inspect/gsm8k.json").read_text())
    of_lm_eval = results["results"]["gsm8k"]
    assert of_lm_eval["exact_match,sq-strict"] == pytest.approx(figures["accuracy"])
    assert of_lm_eval["exact_match,sq-dart"] == pytest.approx(figures["dart/accuracy"])
    assert {s["name"]: s["metrics"]["accuracy"]["value"] for s in log["results"]["scores"]} == pytest.approx(
        {"strict": figures["accuracy"], "dart": figures["dart/accuracy"]}
    )
    for rule, right in RIGHT.items():
        name = rule if rule in LM_EVAL_RULES else f"sq-{rule}"
        assert sum(s["exact_match"] for s in samples if s["filter"] == name) == right
    assert [s["output"]["completion"] for s in log["samples"]] == [text for text, _ in OUTPUTS]


def test_problems_are_the_documents_and_the_unit_of_the_standard_error(random_tiny, tmp_path):
    train = tmp_path / "train.jsonl"
    shots = [{"question": f"Shot {k}", "answer": f"Worked {k}.\n#### {k}"} for k in range(5)]
    train.write_text("".join(json.dumps(row) + "\n" for row in shots))
    engine, rights = SampledConfig(), [2, 0, 3, 1]
    rows = [{"question": f"What is it? {right}", "answer": "Worked.\n#### 5"} for right in rights]
    overrides = ("format=gsm8k_5shot", f"++format.shots.source.input={train}", "n=3", "temperature=1")
    directory, metrics = evaluate(tmp_path, random_tiny, engine, rows, *overrides)
    results, samples = lm_eval_files(directory)
    strict = [s for s in samples if s["filter"] == "sq-strict"]
    shares = [right / 3 for right in rights]
    stderr = statistics.stdev(shares) / 2
    assert [s["doc_id"] for s in strict] == [0, 1, 2, 3] and [s["exact_match"] for s in strict] == shares
    assert [len(s["resps"][0]) for s in strict] == [3] * 4 and strict[0]["filtered_resps"] == [["5", "5", "6"]]
    assert results["n-samples"]["gsm8k"] == {"original": 4, "effective": 4}
    assert results["n-shot"]["gsm8k"] == results["configs"]["gsm8k"]["num_fewshot"] == 5
    for rule in ("sq-strict", "strict-match"):
        of_rule = {name: value for name, value in results["results"]["gsm8k"].items() if name.endswith(rule)}
        assert list(of_rule.values()) == pytest.approx([metrics["accuracy"], stderr])
    prompts = [json.loads(s["arguments"]["gen_args_0"]["arg_0"]) for s in strict]
    assert prompts == engine.sent and prompts[0][-1]["content"].count("Shot") == 5
    log = json.loads((directory / "inspect/gsm8k.json").read_text())
    shown = [[{k: m[k] for k in ("role", "content")} for m in s["messages"][:-1]] for s in log["samples"]]
    assert shown[::3] == engine.sent and log["samples"][0]["input"] == engine.sent[0][-1]["content"]
    (scores, *_) = log["results"]["scores"]
    assert scores["scored_samples"] == 4
    assert [m["value"] for m in scores["metrics"].values()] == pytest.approx([metrics["accuracy"], stderr])


def test_a_problem_that_is_an_example_is_said_and_asked_without_it(random_tiny, tmp_path, caplog):
    shots = [{"question": f"Shot {k}", "answer": f"Worked {k}.\n#### {k}"} for k in range(5)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shots))
    engine = SampledConfig()
    rows = [{"question": f"{text} {right}", "answer": "Worked.\n#### 5"} for text, right in (("shot", 2), ("Other", 1))]
    overrides = ("format=gsm8k_5shot", f"++format.shots.source.input={tmp_path}/train.jsonl", "n=3", "temperature=1")
    evaluate(tmp_path, random_tiny, engine, rows, *overrides)
    assert [sent[-1]["content"].count("Worked") for sent in engine.sent] == [4, 5]
    assert "gsm8k: 1 problem of the worked examples of format=gsm8k_5shot is asked too" in caplog.text


@pytest.mark.parametrize("form", ["bare", "chat"])
def test_the_prompt_as_text_is_what_the_model_reads(random_tiny, form):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        job = build(compose("evaluate", overrides=[f"model.path={random_tiny}", f"format={form}"]), EvalJob)
    made = RequestBuilder(model=job.model, form=job.format, sampling=Sampling(), seed=0)
    problem = {"id": "p", "question": "What is 1 + 1?"}
    read = load_tokenizer(job.model)(made.prompt_text(problem), add_special_tokens=form == "bare").input_ids
    assert tuple(read) == made.request(problem).prompt_ids and made.shots == 0
    (message,) = made.prompt_messages(problem)
    assert message["content"] in made.prompt_text(problem) and message["content"].startswith("What is 1 + 1?")


def test_a_score_under_lm_evaluation_harness_own_rules_is_the_one_it_gives(evaluated):
    """Its task gsm8k: the filters and the metric as its YAML has them, on the outputs that were exported."""
    pytest.importorskip("lm_eval", reason=LM_EVAL)
    import yaml
    from lm_eval import tasks
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters import build_filter_ensemble
    from lm_eval.utils import make_table

    results, samples = lm_eval_files(evaluated[0])
    task = yaml.safe_load((tasks.Path(tasks.__file__).parent / "gsm8k/gsm8k.yaml").read_text())
    metric = {k: v for k, v in task["metric_list"][0].items() if k.startswith(("ignore", "regexes"))}
    for filters in task["filter_list"]:
        name = filters["name"]
        mine = [s for s in samples if s["filter"] == name]
        steps = [(f["function"], {k: v for k, v in f.items() if k != "function"}) for f in filters["filter"]]
        theirs = [Instance("generate_until", s["doc"], (), 0, resps=list(s["resps"][0])) for s in mine]
        build_filter_ensemble(name, steps).apply(theirs)
        found = [i.filtered_resps[name] for i in theirs]
        assert found == [s["filtered_resps"][0] for s in mine], name
        golds = [f"Worked.\n#### {s['target']}" for s in mine]
        right = [exact_match_hf_evaluate([f], [g], **metric)["exact_match"] for f, g in zip(found, golds, strict=True)]
        assert right == [s["exact_match"] for s in mine], name
        assert results["results"]["gsm8k"][f"exact_match,{name}"] == pytest.approx(sum(right) / len(right))
    table = make_table(results)
    assert table.count("exact_match") == 4 and "sq-strict" in table and "flexible-extract" in table


def test_our_grader_is_a_filter_of_lm_evaluation_harness():
    pytest.importorskip("lm_eval", reason=LM_EVAL)
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters import build_filter_ensemble

    docs = [{"answer": f"Worked.\n#### {reference}"} for _, reference in OUTPUTS]
    asked = [Instance("generate_until", d, (), 0, resps=[t]) for d, (t, _) in zip(docs, OUTPUTS, strict=True)]
    build_filter_ensemble("sq", [("custom", {"filter_fn": grade_responses}), ("take_first", None)]).apply(asked)
    right = [exact_match_hf_evaluate([i.filtered_resps["sq"]], [i.doc["answer"]])["exact_match"] for i in asked]
    assert sum(right) == RIGHT["strict"]
    assert asked[12].filtered_resps["sq"].startswith("[unparsed]")


@pytest.mark.parametrize(
    ("doc", "given", "right"),
    [
        ({}, {}, False),
        ({"relative_tolerance": 0.01}, {}, True),
        ({"relative_tolerance": ""}, {}, False),
        ({}, {"relative_tolerance": 0.01}, True),
        ({"error": "1e-2"}, {"tolerance": "error"}, True),
        ({"error": "1e-4"}, {"tolerance": "error"}, False),
        ({"relative_tolerance": 0.01}, {"relative_tolerance": None}, False),
    ],
)
def test_the_filter_grades_by_the_error_that_a_problem_or_the_task_allows(doc, given, right):
    (graded,) = grade_responses([["\\boxed{3.14}"]], [{"answer": "3.1416", **doc}], **given)
    assert graded == ["3.1416" if right else "[wrong] 3.14"]


def test_inspect_reads_the_log_and_scores_it_anew_by_our_grader(evaluated):
    pytest.importorskip("inspect_ai", reason=INSPECT)
    from inspect_ai import score
    from inspect_ai.log import read_eval_log

    directory, figures = evaluated
    log = read_eval_log(str(directory / "inspect/gsm8k.json"))
    assert log.status == "success" and len(log.samples) == len(OUTPUTS)
    assert log.samples[3].input == log.samples[3].messages[0].text == "3" and log.samples[3].messages[0].role == "user"
    assert log.samples[0].scores["strict"].value == "C" and log.samples[0].output.stop_reason == "stop"
    again = score(log, sq_grader(), action="append", display="none")
    accuracy = {s.name: s.metrics["accuracy"].value for s in again.results.scores}
    assert accuracy["sq_grader"] == pytest.approx(figures["accuracy"]) == accuracy["strict"]
    assert again.samples[12].scores["sq_grader"].explanation.startswith("unparsed")


@pytest.mark.slow
def test_inspect_evaluates_the_tiny_model_with_our_grader(random_tiny, tmp_path):
    pytest.importorskip("inspect_ai", reason=INSPECT)
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import GenerateConfig, get_model

    samples = [Sample(input=f"What is {k} + 1?", target=str(k + 1), id=k) for k in range(3)]
    samples.append(Sample(input="One number?", target="5", id=3, metadata={"tolerance": 1e9}))
    model = get_model("hf/tiny", model_path=str(random_tiny), device="cpu", config=GenerateConfig(max_tokens=8))
    task = Task(dataset=samples, scorer=sq_grader())
    (log,) = eval(task, model=model, log_dir=str(tmp_path), display="none")
    assert log.status == "success", log.error
    outputs = [s.output.completion for s in log.samples]
    graded = grade_responses([[text] for text in outputs], [{"answer": s.target} for s in samples])
    assert [s.scores["sq_grader"].value for s in log.samples] == [
        "C" if g == [s.target] else "I" for g, s in zip(graded, samples, strict=True)
    ]


@pytest.mark.slow
def test_lm_evaluation_harness_evaluates_the_tiny_model_with_our_filter(random_tiny, tmp_path):
    """A task of its own with our filter beside its two: its scores are ours on the outputs that it logged."""
    pytest.importorskip("lm_eval", reason=LM_EVAL)
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    rows = [{"question": f"What is {k} + 1?", "answer": f"Add.\n#### {k + 1}"} for k in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "utils.py").write_text("from sq.eval.peers import grade_responses\n")
    (tmp_path / "ours.yaml").write_text(
        f"""
task: ours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}}}
output_type: generate_until
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["Question:"], max_gen_toks: 8, do_sample: false}}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    regexes_to_ignore: [",", "\\\\$", "(?s).*#### ", "\\\\.$"]
filter_list:
  - name: flexible-extract
    filter:
      - {{function: regex, group_select: -1, regex_pattern: "(-?[$0-9.,]{{2,}})|(-?[0-9]+)"}}
      - {{function: take_first}}
  - name: sq
    filter:
      - {{function: custom, filter_fn: !function utils.grade_responses}}
      - {{function: take_first}}
"""
    )
    out = simple_evaluate(
        model="hf", model_args=f"pretrained={random_tiny},dtype=float32", tasks=["ours"], device="cpu", batch_size=4,
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False), bootstrap_iters=0,
    )  # fmt: skip
    logged = {s["doc_id"]: s for s in out["samples"]["ours"] if s["filter"] == "sq"}
    outputs = [logged[k]["resps"][0][0] for k in range(4)]
    ours = [g == [row["answer"]] for g, row in zip(grade_responses([[o] for o in outputs], rows), rows, strict=True)]
    assert out["results"]["ours"]["exact_match,sq"] == pytest.approx(sum(ours) / 4)
    by_rule = [by_lm_eval("flexible-extract", o, str(k + 1))[1] for k, o in enumerate(outputs)]
    assert out["results"]["ours"]["exact_match,flexible-extract"] == pytest.approx(sum(by_rule) / 4)
