"""The stages from Python, on lists of dicts and data sets: what `import sq` offers.

Each function composes the command that its arguments stand for, with the YAMLs and dataclasses of the command line, and
runs it in this process. Settings are those of the stage (`n=4` is `stage.n=4`); `overrides` takes any other as on the
command line. With `output_dir` the rows stay on disk, and the same call continues after a kill; without one they are
made in a directory that is gone when this Python ends.
"""

from __future__ import annotations

import atexit
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from sq.api_rows import Rows, as_input, check, domain_of
from sq.core.compose import compose
from sq.core.config import JOBS, build, load_target, nearest
from sq.core.count import count_noun
from sq.core.errors import ConfigError
from sq.core.quoting import override

if TYPE_CHECKING:
    from datasets import Dataset

    from sq.eval.grade import Grade
    from sq.eval.grader import Grader
    from sq.recipe.load import Recipe
    from sq.recipe.run import RecipeResult

log = logging.getLogger(__name__)
READING = ("limit", "where", "columns")
"""Arguments that say how the rows are read: settings of the command, not of its stage."""
NAMED = "a name of conf/model/, as 'tiny', or what sq.load_model gives"


@dataclass(frozen=True)
class Model:
    """A model behind an engine: a name of `conf/model/`, with other weights where `path` is given."""

    name: str
    path: str | None = None
    engine: str = "auto"
    overrides: tuple[str, ...] = ()
    """Further settings as on the command line: `model.max_length=1024`, `engine.max_num_seqs=64`."""

    def words(self, *, engine: bool = True) -> list[str]:
        """The overrides of a command that takes it; training takes no engine."""
        from sq.recipe.load import best_engine

        own = [override("model", self.name), *([override("model.path", self.path)] if self.path else [])]
        if engine:
            own.append(override("engine", best_engine() if self.engine == "auto" else self.engine))
        return [*own, *(word for word in self.overrides if engine or not word.startswith("engine"))]


def load_model(
    name: str, *, path: str | Path | None = None, engine: str = "auto", overrides: Sequence[str] = ()
) -> Model:
    """A model to generate, judge or score with. Its weights are loaded when a stage first asks.

    Args:
        name: of `conf/model/` (`tiny`, `qwen3-0.6b`, ...).
        path: other weights, spoken to in the same way: a directory or a hub id.
        engine: `vllm`, `hf`, `openai`, `ray`, `oracle`; `auto` is vLLM where it is installed, else `hf`.
        overrides: further settings, as on the command line.

    Raises:
        ConfigError: for a model, a directory, an engine or a setting that there is not.
    """
    from sq.models.load import check_path

    check("name", name, str, NAMED)
    check("engine", engine, str, "the name of one: 'vllm', 'hf', 'openai', 'oracle', 'auto'")
    if path is not None:
        check_path(str(path))
    model = Model(name, None if path is None else str(path), engine, _words(overrides))
    compose("evaluate", model.words(), "sq.eval")
    return model


def questions(
    model: Model | str, *, count: int, source: str = "prefix", rows: Rows | None = None, domain: str | None = None,
    **settings: Any,
) -> Dataset:  # fmt: skip
    """Questions of a model (`stage=questions`): from nothing but its chat prefix, or by another source (`evol`,
    `fewshot`, ...) from `rows` as seeds, else from the domain's own problems."""
    check("source", source, str, "the name of one: 'prefix', 'evol'")
    words = [override("source", source), *_words(settings.pop("overrides", ()))]
    return _synthesize("questions", rows, model, {"count": count, **settings, "overrides": words}, domain)


def filter(  # noqa: A001
    rows: Rows, model: Model | str = "tiny", *, filters: Sequence[str] = ("format", "language", "duplicates"),
    domain: str | None = None, **settings: Any,
) -> Dataset:  # fmt: skip
    """The rows that the filters keep, with what they found as columns (`stage=filter`); `model` judges solvability."""
    check("filters", filters, (list, tuple), "a list of names: ['format', 'duplicates']")
    words = [override("filters", list(filters)), *_words(settings.pop("overrides", ()))]
    return _synthesize("filter", rows, model, {**settings, "overrides": words}, domain)


def answers(rows: Rows, model: Model | str, *, n: int = 5, domain: str | None = None, **settings: Any) -> Dataset:
    """`n` answers to each question (`stage=answers`)."""
    return _synthesize("answers", rows, model, {"n": n, **settings}, domain)


def select(rows: Rows, model: Model | str | None = None, *, domain: str | None = None, **settings: Any) -> Dataset:
    """The best answer to each question (`stage=select`): by a reward model; without one by majority, or `method=`."""
    method = {"method": "majority"} if model is None else {}
    return _synthesize("select", rows, model or "tiny", {**method, **settings}, domain)


def train(
    stage: str, rows: Rows, model: Model | str = "tiny-base", *, output_dir: str | Path, domain: str | None = None,
    seed: int = 0, tracking: str = "none", overrides: Sequence[str] = (), **settings: Any,
) -> Model:  # fmt: skip
    """Train a model (`stage`: qft, qpo, sft, difficulty, reward, pretrain); the model that came of it."""
    check("stage", stage, str, "the name of one: 'qft', 'sft'")
    check("rows", rows, (str, Path, Iterable), "rows or where they are; 'domain' for the domain's own problems")
    check("output_dir", output_dir, (str, Path), "a directory, which the model stays in")
    base = _model(model)
    with as_input(rows) as (data, domains):
        words = [*base.words(engine=False), override("domain", domain or domain_of(domains))]
        words += [override("data.input", data), override("tracking", tracking), override("seed", seed)]
        words += [override(f"data.{key}", settings.pop(key)) for key in READING if key in settings]
        words += _words(overrides)
        path = _run("train", stage, words, settings, output_dir)
    return Model(base.name, str(path), base.engine, base.overrides)


def evaluate(
    model: Model | str, benchmark: str | Sequence[str] = "arithmetic", *, output_dir: str | Path | None = None,
    tracking: str = "none", overrides: Sequence[str] = (), **settings: Any,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """The metrics of a model by benchmark; settings are those of `evaluate.py`, such as `limit=100`."""
    check("benchmark", benchmark, (str, list, tuple), "a name of conf/benchmark/, or a list of them")
    names = [benchmark] if isinstance(benchmark, str) else list(benchmark)
    words = [*_model(model).words(), override("benchmark", names), override("tracking", tracking)]
    words += [override(key, value) for key, value in settings.items()]
    with _directory(output_dir) as directory:
        metrics: dict[str, dict[str, float]] = _run("evaluate", None, [*words, *_words(overrides)], {}, directory)
    return metrics


@overload
def grade(
    prediction: list[str], reference: list[str], *, profile: str = "strict", question: str = "",
    tolerance: float | None = None, relative_tolerance: float | None = None,
) -> list[Grade]: ...  # fmt: skip
@overload
def grade(
    prediction: str, reference: str, *, profile: str = "strict", question: str = "", tolerance: float | None = None,
    relative_tolerance: float | None = None,
) -> Grade: ...  # fmt: skip
def grade(
    prediction: str | list[str], reference: str | list[str], *, profile: str = "strict", question: str = "",
    tolerance: float | None = None, relative_tolerance: float | None = None,
) -> Grade | list[Grade]:  # fmt: skip
    """Whether answers are right, and why; of a text or of a list of them, in processes that can be killed.

    The profile strict allows the errors that are given: minerva_math, say, has `relative_tolerance=0.01`.
    """
    from sq.eval.grade import Pair
    from sq.eval.grader_config import Profile

    if profile not in (profiles := [each.value for each in Profile]):
        raise ConfigError(f"profile={profile!r} is not one of {', '.join(profiles)}{nearest(str(profile), profiles)}")
    for name, error in (("tolerance", tolerance), ("relative_tolerance", relative_tolerance)):
        if error is not None and not (isinstance(error, int | float) and 0 <= error < float("inf")):
            raise ConfigError(f"{name} is {error!r:.60}; give a number of at least 0")
    check("question", question, str, "a text, which all of them answer")
    pair = partial(Pair, question=question, tolerance=tolerance, relative_tolerance=relative_tolerance)
    check("prediction", prediction, Iterable, "a text, or a list of texts")
    check("reference", reference, (Iterable, Number), "a text, or a list of texts")
    if isinstance(prediction, str):
        check("reference", reference, (str, Number), "a text, as prediction is one, or two lists")
        text = _number_as_text(reference)
        check("reference", text, str, "a text or a number")
        return _grader().grade_one(pair(prediction=prediction, reference=text), profile)
    prediction = list(prediction)  # a generator too
    reference = reference if isinstance(reference, str | Number) else [_number_as_text(each) for each in reference]
    if not isinstance(reference, list) or len(prediction) != len(reference):
        given = len(reference) if isinstance(reference, list) else "one text"
        raise ConfigError(
            f"{len(prediction)} predictions and {given} as reference: give two lists of the same length, or two texts"
        )
    for text in (*prediction, *reference):
        check("a text of prediction or reference", text, str, "a text; an answer that there is not is ''")
    pairs = [pair(prediction=p, reference=r) for p, r in zip(prediction, reference, strict=True)]
    return list(_grader().grade(pairs, profile))


def _number_as_text(value: Any) -> Any:
    """A number, Python's or numpy's, as text; NaN, which stands where there is none, and anything else as it is."""
    return str(value) if isinstance(value, Number) and value == value else value  # noqa: PLR0124


def rejects(directory: str | Path) -> Dataset:
    """The rejected rows of a stage's or training's directory: reason, detail, and the row itself as JSON."""
    check("directory", directory, (str, Path), "the directory of a stage or training")
    import pyarrow as pa
    from datasets import Dataset

    from sq.core.ledger import read_rejects
    from sq.core.rejects import REJECTS, TRAINING_FILE

    file = Path(directory) / TRAINING_FILE
    if file.is_file():
        with file.open(encoding="utf-8") as lines:
            found = [
                {"key": reject["id"], **reject, "row": _json_row(reject["row"])} for reject in map(json.loads, lines)
            ]
    else:
        found = list(read_rejects(directory, unfinished=True))
    return Dataset(pa.Table.from_pylist(found, schema=REJECTS))


def _json_row(row: Any) -> str:
    return json.dumps(row if isinstance(row, dict) else {"text": row})


class Pipeline:
    """A recipe: a name of `conf/recipe/` or a YAML, its stages run one after the other, each a process of its own."""

    def __init__(self, name: str, overrides: Sequence[str] = (), *, tiny: bool = False) -> None:
        from sq.recipe.load import load_recipe

        check("name", name, str, "the name of a recipe, as 'demo', or its YAML")
        self.recipe: Recipe = load_recipe(name, _words(overrides), tiny=tiny)

    def plan(self) -> str:
        """What it will take, stage by stage."""
        from sq.recipe.plan import plan
        from sq.recipe.plan_text import format_plan

        return format_plan(plan(self.recipe), sources=False)

    def run(self, *, until: str | None = None, only: str | None = None) -> RecipeResult:
        """Run what is not done yet; the same call continues after a kill."""
        from sq.recipe.run import run_recipe, selected

        return run_recipe(self.recipe, selected(self.recipe, until, only), command=f"sq run recipe={self.recipe.name}")

    def status(self) -> str:
        """How far it is."""
        from sq.recipe.status import format_status

        return format_status(self.recipe.output_dir)

    def rows(self, stage: str) -> Dataset:
        """The rows of one of its stages."""
        names = [each.name for each in self.recipe.stages]
        if stage not in names:
            raise ConfigError(f"stage {stage!r} is none of {self.recipe.name}: {', '.join(names)}")
        return _dataset(self.recipe.output_dir / stage)


def _synthesize(
    stage: str, rows: Rows | None, model: Model | str, settings: Mapping[str, Any], domain: str | None
) -> Dataset:
    given = dict(settings)
    output_dir, overrides = given.pop("output_dir", None), _words(given.pop("overrides", ()))
    words = [override(key, given.pop(key)) for key in ("seed", *READING) if key in given]
    words.append(override("tracking", given.pop("tracking", "none")))
    with as_input(rows) as (data, domains), _directory(output_dir) as directory:
        own = [*_model(model).words(), override("domain", domain or domain_of(domains))]
        own += [override("input", data)] if data else []
        scores = [override("stage.scores", str(directory / "scores"))] if stage == "filter" and not output_dir else []
        metrics = _run("synthesize", stage, [*words, *own, *scores, *overrides], given, directory)
        _warn_of_rejects(stage, metrics, directory, kept=output_dir is not None)
        return _dataset(directory)


def _warn_of_rejects(stage: str, metrics: Mapping[str, float], directory: Path, *, kept: bool) -> None:
    """What the stage's summary says of rejects, where a program shows warnings alone."""
    reasons = {name.partition("/")[2]: n for name, n in metrics.items() if name.startswith("rejects/") and n}
    if reasons.keys() - {"not_chosen"} and not log.isEnabledFor(logging.INFO):
        log.warning(
            "%s: %s kept, %s rejected (%s). sq.rejects(%r) has them%s", stage, count_noun(int(metrics["rows"]), "row"),
            f"{metrics['rejects']:,.0f}", ", ".join(f"{n:,.0f} {reason}" for reason, n in reasons.items()),
            str(directory), "" if kept else " until this Python ends; output_dir= keeps them"
        )  # fmt: skip


def _run(
    script: str, stage: str | None, words: Sequence[str], settings: Mapping[str, Any], output_dir: str | Path
) -> Any:
    """Compose, build and run a command, as its entry script does."""
    chosen = [override("stage", stage)] if stage else []
    own = [override(f"stage.{key}", value) for key, value in settings.items()]
    words = [*chosen, *words, *own, override("output_dir", str(output_dir))]
    job = build(compose(script, words, JOBS[script].rpartition(".config.")[0]), load_target(JOBS[script]))
    return job.run()


def _model(model: Model | str) -> Model:
    check("model", model, (str, Model), NAMED)
    return model if isinstance(model, Model) else Model(model)


def _words(overrides: Sequence[str]) -> tuple[str, ...]:
    check("overrides", overrides, (list, tuple), "a list: ['seed=1']")
    return tuple(overrides)


@contextmanager
def _directory(given: str | Path | None) -> Iterator[Path]:
    if given is not None:
        yield Path(given)
        return
    scratch = tempfile.TemporaryDirectory(prefix="sq-")
    atexit.register(scratch.cleanup)  # not before: what is printed of a stage names it
    yield Path(scratch.name) / "stage"


def _dataset(directory: Path) -> Dataset:
    """A stage's rows in memory; a column that all of them lack is left out, where there is a row."""
    import pyarrow as pa
    from datasets import Dataset

    from sq.core.columns import TABLE
    from sq.core.ledger import read_manifest, read_rows

    if rows := list(read_rows(directory)):
        return Dataset(pa.Table.from_pylist(rows).select(_filled(rows)))
    return Dataset(pa.schema([(name, TABLE[name].type) for name in read_manifest(directory).schema]).empty_table())


def _filled(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    from sq.core.rows import LINEAGE

    kept = set(LINEAGE.names)  # by which a later stage knows the rows as its own
    return [name for name in rows[0] if name in kept or any(row[name] not in (None, []) for row in rows)]


@cache
def _grader() -> Grader:
    from sq.eval.grader import Grader

    grader = Grader()
    atexit.register(grader.close)
    return grader
