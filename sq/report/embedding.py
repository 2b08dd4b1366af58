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

from sq.core.errors import SqError
from sq.core.files import read_json
from sq.report.artifacts import RunArtifacts
from sq.report.content import question_stages, seeds
from sq.report.overlap import problems
from sq.report.plots import MARKERS, Plots, axes, color
from sq.report.render import Section, section

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from sq.models.load import ModelConfig

# Before torch: without it every small operation waits 8 ms as soon as another process is on the cores.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

EACH = 250  # questions of each set on the map
LARGEST = 3_000_000_000  # bytes of weights that are loaded without a GPU
TOKENS = 256
BATCH = 32
NEIGHBOURS = 5


def question_map(artifacts: RunArtifacts, plots: Plots, model: str | None = None) -> Section | None:
    """The map, or one line that says why there is none; by `model`, else by the base of question fine-tuning."""
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]

    sets = _sets(artifacts)
    if len(sets) < 2:
        return None
    try:
        base = model or base_model(artifacts)
        vectors = embed(base, [text for texts in sets.values() for text in texts])
    except SqError as error:
        return section("map", error=str(error))
    groups = [name for name, texts in sets.items() for _ in texts]
    perplexity = max(1.0, min(30.0, (len(vectors) - 1) / 3))
    places = TSNE(2, perplexity=perplexity, init="pca", random_state=0, n_jobs=1).fit_transform(vectors)
    caption = f"t-SNE of {len(vectors):,} questions, perplexity {perplexity:.0f}, seed 0"
    alt = f"Scatter of {len(groups)} questions: " + ", ".join(f"{n} {len(t)}" for n, t in sets.items())
    figure = plots.add("map", lambda: _draw(places, groups, list(sets)), alt, caption)
    near = _neighbours(vectors, groups, list(sets))
    values = {"neighbours": NEIGHBOURS, "count": len(groups), "base": short(base)}
    return section("map", error="", figure=figure, near=near, **values)


def embed(path: str, texts: Sequence[str]) -> NDArray[Any]:
    """The mean hidden state of each text, about the mean of all, normalised; an `SqError` where the model is not here,
    or too large.
    """
    config = _config(path)
    import numpy as np
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from sq.models.load import computed_in, load_model, load_tokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer, model = load_tokenizer(config), load_model(config, dtype=computed_in(config, "auto", device)).eval()
    body = model.base_model.to(device)
    ids = [tokenizer(text, truncation=True, max_length=TOKENS)["input_ids"] or [0] for text in texts]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    vectors = [np.zeros(0)] * len(ids)
    with torch.no_grad():
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            padded = pad_sequence([torch.tensor(ids[i]) for i in part], batch_first=True).to(device)
            lengths = torch.tensor([len(ids[i]) for i in part], device=device)[:, None]
            mask = (torch.arange(padded.shape[1], device=device) < lengths).long()
            states = body(input_ids=padded, attention_mask=mask).last_hidden_state.float()
            means = (states * mask[..., None]).sum(1) / lengths
            for i, vector in zip(part, means.cpu().numpy(), strict=True):
                vectors[i] = vector
    stacked = np.stack(vectors) - np.mean(vectors, axis=0)
    return np.asarray(stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-9))


def _config(path: str) -> ModelConfig:
    """The model's config, with where it is on this machine."""
    import torch
    from huggingface_hub import snapshot_download

    from sq.models.load import ModelConfig, locate

    where = Path(locate(ModelConfig(name=Path(path).name, path=path)))
    try:
        where = where if where.is_dir() else Path(snapshot_download(path, local_files_only=True))
    except Exception as error:  # the hub's errors are of many kinds, and all mean that it is not here
        raise SqError(f"{path} is not on this machine (sq report --embed DIR takes another model)") from error
    size = sum(file.stat().st_size for file in where.glob("*.safetensors"))
    if size > LARGEST and not torch.cuda.is_available():
        raise SqError(f"{short(path)} has {size / 1e9:.1f} GB of weights and there is no GPU (sq report --embed DIR)")
    return ModelConfig(name=Path(path).name, path=str(where))


def _sets(artifacts: RunArtifacts) -> dict[str, list[str]]:
    """Seeds, generated questions by stage, and benchmarks: at most `EACH` of each."""
    sets = {"seeds": seeds(artifacts)[:EACH]}
    stages = list(question_stages(artifacts).items())
    sets |= {name: stage.questions(EACH) for name, stage in [*stages[:1], *stages[-1:]]}
    for stage in artifacts.of("evaluate"):
        for name, scores in stage.benchmarks.items():
            if name not in sets and len(sets) < 6:
                sets[name] = [text for _, text in islice(problems(scores), EACH)]
    return {name: texts for name, texts in sets.items() if texts}


def base_model(artifacts: RunArtifacts) -> str:
    """The model that question fine-tuning began with, by the note beside the weights it made."""
    for stage in artifacts.of("qft", "sft", "qpo"):
        if base := str(read_json(stage.directory / "model" / "sq.json").get("base") or ""):
            return base
    if artifacts.domain is not None and artifacts.domain.base_model:
        return artifacts.domain.base_model
    raise SqError("the run has trained no model, so none is known to embed with (sq report --embed DIR)")


def _neighbours(vectors: NDArray[Any], groups: Sequence[str], names: Sequence[str]) -> dict[str, list[float]]:
    """For each set, the shares of its questions' nearest neighbours that belong to each set."""
    import numpy as np

    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(groups) - 1)]
    labels = np.asarray([names.index(group) for group in groups])
    of_sets = [labels[nearest[labels == number]].ravel() for number in range(len(names))]
    shares = [[float(np.mean(own == other)) for other in range(len(names))] for own in of_sets]
    return dict(zip(names, shares, strict=True))


def short(path: str) -> str:
    return path if path.startswith(("package:", "fetch:")) or not Path(path).is_absolute() else Path(path).name


def _draw(places: NDArray[Any], groups: Sequence[str], names: Sequence[str]) -> Figure:
    figure, (ax,) = axes(height=4.4)
    for number, name in enumerate(names):
        own = [i for i, group in enumerate(groups) if group == name]
        ax.scatter(places[own, 0], places[own, 1], s=11, marker=MARKERS[number], linewidths=0, alpha=0.75,
                   color=color(number), label=name)  # fmt: skip
    ax.axis("off")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, markerscale=1.8)
    return figure
