"""How diverse each set of questions is: distinct n-grams, the Vendi score, topics that no seed has.

Each measure depends on how many questions it is taken of, so it is taken of equally many of each set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sq.core.errors import SqError
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.content import question_sets, question_stages, topic_counts
from sq.report.embedding import base_model, embed, short
from sq.report.render import Section, section
from sq.synth.diversity import distinct_ngrams, new_topics, vendi_score

RUNS = (1, 2, 3, 4)
"""Words of the n-grams."""
EACH = 2_000  # questions of each set
EMBEDDED = 4_000  # questions of all sets that the base model reads: minutes for a small one on a CPU
SETS = 16
ONE_OR_MANY = "generators"
"""The figure whose stages are one generator against a mix of them."""


def diversity(artifacts: RunArtifacts, model: str | None = None) -> Section | None:
    """The table; the Vendi score by `model`, else by the base of question fine-tuning, where that is here."""
    sets = question_sets(artifacts, _stages(artifacts))
    if not sets:
        return None
    count = min(EACH, *map(len, sets.values()))
    distinct = {name: [distinct_ngrams(texts[:count], n) for n in RUNS] for name, texts in sets.items()}
    error, base, scores, embedded = "", "", {}, min(count, EMBEDDED // len(sets))
    try:
        base = model or base_model(artifacts)
        vectors = embed(base, [text for texts in sets.values() for text in texts[:embedded]])
        scores = {name: vendi_score(vectors[i * embedded : (i + 1) * embedded]) for i, name in enumerate(sets)}
    except SqError as problem:
        error = str(problem)
    values = {"count": count, "embedded": embedded, "base": short(base), "error": error, "runs": RUNS}
    topics, by = _new_topics(artifacts)
    return section("diversity", distinct=distinct, scores=scores, topics=topics, by=by, **values)


def _stages(artifacts: RunArtifacts) -> dict[str, StageArtifacts]:
    """Every source of questions, one generator against a mix among them, the last filter, and what was annotated."""
    more = [s for s in artifacts.of("questions") if s.manifest and s.tags.get("figure") == ONE_OR_MANY]
    more += [s for s in artifacts.of("annotate") if artifacts.inputs_of(s)]
    return question_stages(artifacts, SETS) | {stage.name: stage for stage in more[:SETS]}


def _new_topics(artifacts: RunArtifacts) -> tuple[Mapping[str, float], str]:
    """Of each set, the share of its topics that no seed has; empty where nothing says what seeds are about."""
    counts, by = topic_counts(artifacts, _stages(artifacts))
    seeds: Counter[str] = counts.get("seeds", Counter())
    return ({name: new_topics(own, seeds) for name, own in counts.items() if name != "seeds"} if seeds else {}), by
