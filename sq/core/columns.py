"""Every column that a row may have: its type, what it is, whether a built dataset has it and how a sample shows it.

`rows.py` makes the stages' schemas of them, the dataset's card describes them, the report shows samples by them. A new
column is one line here and its name in a schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

TEXT, INT, FLOAT, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
TEXTS = pa.list_(pa.field("item", TEXT))
BOOLS = pa.list_(pa.field("item", BOOL))
MESSAGES = pa.list_(pa.struct([("role", TEXT), ("content", TEXT)]))


@dataclass(frozen=True, slots=True)
class Column:
    """One column: a name means one thing in all schemas."""

    name: str
    type: pa.DataType
    about: str
    dataset: bool = True
    """Whether `sq build` puts it into a dataset: what says something of a row that was selected."""
    sample: Literal["text", "value", ""] = "value"
    """How the report shows it of a row: as a text with its formulas, as a value of the lineage, or not at all."""


def _beside(name: str, kind: pa.DataType, about: str, sample: Literal["text", "value", ""] = "value") -> Column:
    """A column of pairs, labels or scores, which stand beside the way to the dataset."""
    return Column(name, kind, about, dataset=False, sample=sample)


CHAT = (
    Column("prompt", MESSAGES, "query as a chat message, as TRL and other trainers take it"),
    Column("completion", MESSAGES, "response as a chat message"),
)
"""Columns that `sq build` adds; no stage writes them."""

_ALL = (
    # of every row
    Column("id", TEXT, "of the row, for life: a digest of what determines it"),
    Column("run", TEXT, 'the tracked run that made the row, or "source:" and a digest where it came from outside'),
    Column("model", TEXT, "fingerprint of the weights that wrote it, if a model did"),
    Column("seed", INT, "it was sampled with"),
    Column("parents", TEXTS, "ids of the rows it was made from, nearest first"),
    # of a question
    Column("question", TEXT, "without any instruction", sample="text"),
    Column("domain", TEXT, "the kind of problem"),
    Column("generator", TEXT, "the model that wrote the question"),
    Column("prefix", TEXT, "digest of the token ids that the question was sampled from"),
    Column("index", INT, "which sample of that generator, prefix and seed"),
    Column("question_finish_reason", TEXT, "why the generator stopped", dataset=False),
    Column("question_tokens", INT, "tokens that were generated for the question"),
    Column("question_prompt_tokens", INT, "tokens of the prefix it was sampled from"),
    Column("solution", TEXT, "reference solution, where the question came with one"),
    Column("answer", TEXT, "reference answer, where the question came with one"),
    Column("steps", INT, "steps of the reference solution"),
    Column("level", TEXT, "of the source"),
    Column("topic", TEXT, "of the source, or by a model"),
    Column("source", TEXT, "file or dataset that the question was read from, if it was not generated"),
    Column("source_row", INT, "its row there"),
    Column("source_id", TEXT, "its id there"),
    Column("question_source", TEXT, "the question source (source=) that made it"),
    Column("operation", TEXT, "what that source did to its parents to make it"),
    Column("round", INT, "how many questions of the same item come before it, each made from the one before"),
    Column("concepts", TEXTS, "its topics and knowledge points, or those that it was asked about"),
    Column("rated_difficulty", FLOAT, "a model's rating, 20 very easy to 100 very hard"),
    Column("answers_wanted", INT, "solutions to sample for it, in place of stage.n", dataset=False),
    Column("extra", TEXT, "the source's other columns, as JSON", dataset=False, sample=""),
    # of a question that was filtered
    Column("language", TEXT, "as detected"),
    Column("language_score", FLOAT, "how sure that is"),
    Column("solvable", TEXT, 'what the judge says of it: "yes", "no" or "unparsable"'),
    Column("solvable_yes", INT, "votes for solvable"),
    Column("solvable_votes", INT, "of so many"),
    Column("judge_model", TEXT, "who judged: an engine and the fingerprint of its weights"),
    Column("judge_reply", TEXT, "what the judge wrote", dataset=False, sample=""),
    Column("judge_tokens", INT, "tokens of the judge's reply"),
    Column("judge_prompt_tokens", INT, "tokens that the judge was given"),
    Column("difficulty", FLOAT, "predicted fail rate, 0 easy to 1 hard"),
    Column("difficulty_model", TEXT, "fingerprint of the scorer"),
    Column("pass_rate", FLOAT, "share of a solver's samples with the reference answer, else with the commonest one"),
    Column("pass_rate_low", FLOAT, "lower end of its interval", dataset=False),
    Column("pass_rate_high", FLOAT, "upper end of its interval", dataset=False),
    Column("pass_rate_answer", TEXT, "the answer that passes", dataset=False),
    Column("pass_rate_samples", INT, "samples that the solver was asked for", dataset=False),
    Column("pass_rate_tokens", INT, "tokens of these samples", dataset=False),
    Column("pass_rate_model", TEXT, "fingerprint of that solver", dataset=False),
    Column("duplicate_of", TEXT, "id of the question that stayed", dataset=False),
    Column("duplicate_kind", TEXT, '"exact" or "near"', dataset=False),
    Column("duplicate_similarity", FLOAT, "of the two, 1 the same", dataset=False),
    Column("overlap", FLOAT, "share of the question's 13-grams that a benchmark has too"),
    Column("overlap_benchmark", TEXT, "that benchmark", dataset=False),
    Column("overlap_item", TEXT, "its problem", dataset=False),
    Column("overlap_ngram", TEXT, "the words in common", dataset=False),
    Column("well_formed", BOOL, "whether a program may be made of it", dataset=False),
    Column("format_problem", TEXT, "why it is not well formed", dataset=False),
    # of a candidate solution
    Column("question_id", TEXT, "id of the question that is answered", dataset=False),
    Column("response", TEXT, "the solution", sample="text"),
    Column("response_index", INT, "which of its question's candidates"),
    Column("response_model", TEXT, "who wrote the solution"),
    Column("response_prompt", TEXT, "the instruction beside the question"),
    Column("response_seed", INT, "the solution was sampled with"),
    Column("response_answer", TEXT, "the final answer in the response, where it has one"),
    Column("reasoning_end", INT, "where the answer begins in a response that reasons first; -1: it never does"),
    Column("response_finish_reason", TEXT, "why the solver stopped", dataset=False),
    Column("response_tokens", INT, "tokens of the solution"),
    Column("response_prompt_tokens", INT, "tokens that the solver was given"),
    Column("correct", BOOL, "whether the answer is right, where a reference tells"),
    Column("reward", FLOAT, "the reward model's score"),
    Column("reward_model", TEXT, "fingerprint of the reward model"),
    Column("votes", INT, "candidates of the same question with the same answer, itself included"),
    Column("agreement", FLOAT, "share of the tests written beside the candidates that most of them pass"),
    Column("rank", INT, "among the candidates; 0 was selected", dataset=False),
    # of an example
    Column("query", TEXT, "what a student is asked: the question, with the instruction of the domain", sample=""),
    Column("selected_by", TEXT, "why this answer among the candidates"),
    Column("candidates", INT, "how many solutions there were to choose from"),
    # of a preference pair
    _beside("chosen", TEXT, "the better question", "text"),
    _beside("rejected", TEXT, "the question that it was made of, or the worse one", "text"),
    _beside("direction", TEXT, '"solvability" or "difficulty"'),
    _beside("pair_source", TEXT, '"rewrite", "success_rate" or "solver"'),
    _beside("rewrite_model", TEXT, "fingerprint of the model that rewrote it"),
    _beside("rewrite_prompt", TEXT, "the prompt's name"),
    _beside("rewrite_reply", TEXT, "what that model wrote", ""),
    _beside("rewrite_finish_reason", TEXT, "why it stopped"),
    _beside("rewrite_tokens", INT, "tokens of its reply"),
    _beside("rewrite_prompt_tokens", INT, "tokens that it was given"),
    _beside("chosen_solvable", TEXT, "what the judge says of the chosen question"),
    _beside("chosen_score", FLOAT, "the solver's agreement; of pair_source solver: solvable × wanted difficulty"),
    _beside("rejected_score", FLOAT, "the same of the rejected question"),
    # of a fail rate
    _beside("k", INT, "wrong solutions among n"),
    _beside("n", INT, "solutions that were sampled"),
    _beside("fail_rate", FLOAT, "k of n"),
    _beside("ci_low", FLOAT, "lower end of its interval"),
    _beside("ci_high", FLOAT, "upper end of its interval"),
    _beside("ci_level", FLOAT, "the interval's level"),
    _beside("solver_model", TEXT, "who solved"),
    _beside("solver_prompt", TEXT, "the instruction beside the problem"),
    _beside("solver_answers", TEXTS, "the final answers"),
    _beside("solver_solutions", TEXTS, "the solutions whole, which a reward model is trained on", ""),
    _beside("solver_right", BOOLS, "which of them are right"),
    _beside("solver_tokens", INT, "tokens of the solutions"),
    _beside("solver_prompt_tokens", INT, "tokens that the solver was given"),
    _beside("stopped", TEXT, 'why sampling ended: "full" or "interval"'),
    # of an evaluation's score
    _beside("benchmark", TEXT, "the benchmark"),
    _beside("item", TEXT, "the problem's id in it"),
    _beside("sample", INT, "which answer to the problem"),
    _beside("profile", TEXT, "the grader"),
    _beside("prediction", TEXT, "the whole reply; empty where the model said nothing", "text"),
    _beside("reference", TEXT, "the reference answer"),
    _beside("extracted", TEXT, "the final answer in the reply"),
    _beside("verdict", TEXT, "how it was graded"),
    _beside("reason", TEXT, "why so"),
    _beside("prediction_model", TEXT, "fingerprint of the model"),
    _beside("prediction_prompt", TEXT, "the instruction beside the problem"),
    _beside("prediction_finish_reason", TEXT, "why it stopped"),
    _beside("prediction_tokens", INT, "tokens of the reply"),
    _beside("prediction_prompt_tokens", INT, "tokens that it was given"),
)
TABLE: dict[str, Column] = {column.name: column for column in _ALL}
