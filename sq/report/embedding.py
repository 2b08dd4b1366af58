"""A map of questions: generated ones among seeds and benchmarks (paper, Figure 8).

A question's place is the mean hidden state of the run's own base model, so nothing is downloaded; t-SNE brings it to
two dimensions. A map shows neighbourhoods; distances between far clusters mean nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.count import count_noun
from sq.core.errors import SqError
from sq.report.artifacts import RunArtifacts, read_json
from sq.report.difficulty import stages_of_questions
from sq.report.html import Section, join, note, table
from sq.report.measure import percent
from sq.report.overlap import problems
from sq.report.seeds import seeds
from sq.report.style import MARKERS, Plots, Style, axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from sq.models.load import ModelConfig

# Before torch: without it every small operation waits 8 ms as soon as another process is on the cores.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

EACH = 250
"""Questions of each set on the map."""
LARGEST = 3_000_000_000
"""Bytes of weights that are loaded without a GPU."""
TOKENS = 256
BATCH = 32
NEIGHBOURS = 5


def section(artifacts: RunArtifacts, figures: Plots, model: str | None = None) -> Section | None:
    """The map, or one line that says why there is none.

    Args:
        artifacts: the run.
        figures: where it is drawn.
        model: a model's directory to embed with; default: the base of the run's question fine-tuning.
    """
    sets = _sets(artifacts)
    if len(sets) < 2:
        return None
    title = "Map of questions"
    try:
        base = model or _base(artifacts)
        vectors = embed(base, [text for texts in sets.values() for text in texts])
    except SqError as error:
        return Section(id="map", title=title, says=f"Not drawn: {error}", body=join([]), paper="Figure 8")
    places, how = _flat(vectors)
    groups = [name for name, texts in sets.items() for _ in texts]
    alt = f"Scatter of {len(groups)} questions: " + ", ".join(f"{n} {len(t)}" for n, t in sets.items())
    drawn = figures.add("map", lambda style: _drawn(places, groups, list(sets), style), alt, how)
    near = _neighbours(vectors, groups, list(sets))
    head = ["questions", *(f"near {name}" for name in sets)]
    rows = [[name, *(percent(v, 0) for v in shares)] for name, shares in near.items()]
    caption = f"Whom the {NEIGHBOURS} nearest neighbours of a question belong to (all dimensions)"
    body = join([
        drawn, table(head, rows, caption=caption),
        note("Sets of equal size that fill the same region are near each other and themselves alike; a set that is "
             "near itself alone lies apart."),
    ])  # fmt: skip
    says = f"{count_noun(len(groups), 'question')} by the mean hidden state of {_told(base)}: {', '.join(sets)}."
    return Section(id="map", title=title, says=says, body=body, paper="Figure 8")


def embed(path: str, texts: Sequence[str]) -> NDArray[Any]:
    """The mean hidden state of each text, normalised.

    Raises:
        SqError: a model that is not on this machine, or too large for it.
    """
    config = _config(path)
    import numpy as np
    import torch

    from sq.models.load import computed_in, load_model, load_tokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer, model = load_tokenizer(config), load_model(config, dtype=computed_in(config, "auto", device)).eval()
    body = model.base_model.to(device)
    ids = [tokenizer(text, truncation=True, max_length=TOKENS)["input_ids"] or [0] for text in texts]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found = [np.zeros(0)] * len(ids)
    with torch.no_grad():
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            width = max(len(ids[i]) for i in part)
            padded = torch.tensor([ids[i] + [0] * (width - len(ids[i])) for i in part], device=device)
            mask = torch.tensor([[1] * len(ids[i]) + [0] * (width - len(ids[i])) for i in part], device=device)
            states = body(input_ids=padded, attention_mask=mask).last_hidden_state.float()
            means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            for i, vector in zip(part, means.cpu().numpy(), strict=True):
                found[i] = vector
    stacked = np.stack(found)
    stacked = stacked - stacked.mean(0)
    return np.asarray(stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-9))


def _config(path: str) -> ModelConfig:
    from sq.models.load import ModelConfig, locate

    config = ModelConfig(name=Path(path).name, path=path)
    where = Path(locate(config))
    if not where.is_dir():
        from huggingface_hub import snapshot_download

        try:
            where = Path(snapshot_download(path, local_files_only=True))
        except Exception as error:  # the hub's errors are of many kinds, and all mean that it is not here
            raise SqError(f"{path} is not on this machine (sq report --embed DIR takes another model)") from error
        config = ModelConfig(name=config.name, path=str(where))
    import torch

    size = sum(file.stat().st_size for file in where.glob("*.safetensors"))
    if size > LARGEST and not torch.cuda.is_available():
        raise SqError(f"{_told(path)} has {size / 1e9:.1f} GB of weights and there is no GPU (sq report --embed DIR)")
    return config


def _sets(artifacts: RunArtifacts) -> dict[str, list[str]]:
    """Seeds, generated questions by stage, and benchmarks: at most `EACH` of each."""
    told = {"seeds": seeds(artifacts)[:EACH]}
    stages = list(stages_of_questions(artifacts).items())
    for name, stage in dict([*stages[:1], *stages[-1:]]).items():
        told[name] = [row["question"] for row in stage.sample(EACH, "question")]
    for stage in artifacts.of("evaluate"):
        for name, scores in stage.benchmarks.items():
            if name not in told and len(told) < 6:
                told[name] = [text for _, text in islice(problems(scores), EACH)]
    return {name: texts for name, texts in told.items() if texts}


def _base(artifacts: RunArtifacts) -> str:
    """The model that question fine-tuning began with, by the note beside the weights it made."""
    for stage in artifacts.of("qft", "sft", "qpo"):
        base = str(read_json(stage.directory / "model" / "sq.json").get("base") or "")
        if base:
            return base
    if artifacts.domain is not None and artifacts.domain.base_model:
        return artifacts.domain.base_model
    raise SqError("the run has trained no model, so none is known to embed with (sq report --embed DIR)")


def _flat(vectors: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Two dimensions, and how they came about."""
    import numpy as np
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]

    perplexity = max(1.0, min(30.0, (len(vectors) - 1) / 3))
    made = TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=0, n_jobs=1).fit_transform(vectors)
    return np.asarray(made), f"t-SNE of {len(vectors):,} questions, perplexity {perplexity:.0f}, seed 0"


def _neighbours(vectors: NDArray[Any], groups: Sequence[str], names: Sequence[str]) -> dict[str, list[float]]:
    """For each set, the shares of its questions' nearest neighbours that belong to each set."""
    import numpy as np

    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(groups) - 1)]
    labels = np.asarray([names.index(group) for group in groups])
    told = {}
    for number, name in enumerate(names):
        theirs = labels[nearest[labels == number]].ravel()
        told[name] = [float(np.mean(theirs == other)) for other in range(len(names))]
    return told


def _told(path: str) -> str:
    return path if path.startswith(("package:", "fetch:")) or not Path(path).is_absolute() else Path(path).name


def _drawn(places: NDArray[Any], groups: Sequence[str], names: Sequence[str], style: Style) -> Figure:
    figure, (ax,) = axes(style, height=4.4)
    for number, name in enumerate(names):
        own = [i for i, group in enumerate(groups) if group == name]
        ax.scatter(places[own, 0], places[own, 1], s=11, marker=MARKERS[number], linewidths=0, alpha=0.75,
                   color=style.series[number % len(style.series)], label=name)  # fmt: skip
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, markerscale=1.8)
    return figure
