"""`sq compare EXPERIMENT`: the runs of an experiment as a table of what was varied, means over seeds with intervals.

Runs of one setting that differ in nothing but their seed are one group. Of a directory only the latest run counts, so a
job that was killed and run again is there once; runs that did not finish are left out and counted.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from sq.core.config import nearest
from sq.core.count import columns, count_noun
from sq.core.errors import ConfigError, SqError
from sq.core.intervals import student
from sq.core.metrics import Better, find_metric
from sq.core.tracking_mlflow import whole_uri
from sq.recipe.tracked_runs import latest_runs, read_runs, value_of

USUAL_METRICS = ("accuracy", "oracle/solvable", "correct/chosen", "val/loss", "train/loss")
"""How a metric ends that is looked at where none is named: the one that most runs have, the first of several."""
LOWER_IS_BETTER = ("loss", "mse", "error", "seconds", "duplicates", "rejects")
"""Words in the names of other metrics than `sq/core/metrics.py` has, of which less is better."""
_OVER_SEEDS = ("model.path", "data.input", "input", "source.input", "source.mix")
"""Settings in which runs of several seeds may differ, each with a directory of its own; two of one seed may not."""
_IGNORED = ("output_dir", "tracking.", "stage.scores", *_OVER_SEEDS)
_CHOOSES_ROWS = ("where", "split", "subset", "revision", "shuffle", "limit")
"""Settings of a source, one in a mix too, by which two runs read other rows."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one setting: what they have in common, and their values of each metric."""

    setting: tuple[str, ...]
    values: dict[str, list[float]]
    runs: list[str]
    held_out: set[str] = field(default_factory=set)
    """Digests of the held-out rows that its runs were measured on, one a seed; none where runs did not say."""

    def mean(self, metric: str) -> float | None:
        """The mean, None where no run has the metric."""
        values = self.values.get(metric)
        return fmean(values) if values else None

    def spread(self, metric: str) -> float | None:
        """Half the width of the 95% interval of the mean by Student's t; None for a single run."""
        values = self.values.get(metric, [])
        if len(values) < 2:
            return None
        return student(len(values) - 1) * stdev(values) / math.sqrt(len(values))


@dataclass(frozen=True, kw_only=True)
class ExperimentComparison:
    """An experiment, grouped."""

    experiment: str
    by: tuple[str, ...]
    metrics: tuple[str, ...]
    groups: list[Group]
    left_out: dict[str, int] = field(default_factory=dict)

    def comparable(self, metric: str) -> bool:
        """Whether all groups were measured on the same rows, where the metric is of held-out rows."""
        if not metric.startswith("val/"):
            return True
        if any(key.endswith("data.limit") for key in self.by) and not all(g.held_out for g in self.groups):
            return False  # of an earlier version: each size had held-out rows of its own
        return len({frozenset(g.held_out) for g in self.groups}) <= 1

    def best(self, metric: str) -> Group | None:
        """The group with the best mean; None where neither more nor less is better, several are, or rows are others."""
        if not self.comparable(metric) or not has_direction(metric):
            return None
        sign = -1.0 if less_is_better(metric) else 1.0
        means = {i: sign * mean for i, g in enumerate(self.groups) if (mean := g.mean(metric)) is not None}
        best = [i for i, mean in means.items() if mean == max(means.values())]
        return self.groups[best[0]] if len(best) == 1 else None


def has_direction(metric: str) -> bool:
    """Whether more or less of it is better; of a metric that is not in the table, it is taken so."""
    metric_entry = find_metric(metric)
    return metric_entry is None or metric_entry.better is not Better.NEITHER


def less_is_better(metric: str) -> bool:
    """By the table of metrics, else by its name."""
    if metric_entry := find_metric(metric):
        return metric_entry.better is Better.DOWN
    words = metric.lower().replace("/", "_").split("_")
    return any(word in words for word in LOWER_IS_BETTER)


def compare_runs(
    uri: str,
    experiment: str,
    *,
    by: Sequence[str] = (),
    metrics: Sequence[str] = (),
    stage: str | None = None,
    within: Path | None = None,
) -> ExperimentComparison:
    """Group the runs of an experiment.

    Args:
        uri: Where runs are tracked.
        experiment: The experiment's name.
        by: Settings to group by, whole (`stage.lr`) or their end (`lr`); none: those that differ.
        metrics: What to compare, whole or by the end; none: the usual one.
        stage: Only runs of this kind.
        within: Only runs whose directory is this one or below it.

    Raises:
        SqError: for an experiment, setting or metric that is not there, with the nearest name.
    """
    path = Path(whole_uri(uri).removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not path.is_file():
        raise SqError(
            f"there is no {path}: nothing was tracked here; say where: --tracking-uri sqlite:///FILE or http://..."
        )
    every = [run for run in read_runs(uri, experiment) if run["tags"].get("sq.stage") not in ("sweep", "recipe")]
    if within is not None:
        place = within.resolve()
        every = [run for run in every if Path(run["tags"].get("sq.directory", "/")).resolve().is_relative_to(place)]
    stages = sorted({run["tags"].get("sq.stage", "") for run in every})
    if stage is not None and stage not in stages:
        raise ConfigError(f"--stage {stage}: no run is of it{nearest(stage, stages)}; there are {', '.join(stages)}")
    runs, left_out = latest_runs([run for run in every if stage in (None, run["tags"].get("sq.stage"))])
    if not runs:
        raise SqError(f"experiment {experiment!r} has no finished run{_format_left_out(left_out)}")
    names = {metric for run in runs for metric in run["metrics"]}
    chosen = [_full_name(name, names, "--metric") for name in metrics] or [_usual_metric(runs)]
    measured = [run for run in runs if any(metric in run["metrics"] for metric in chosen)]
    if len(measured) < len(runs):
        left_out["without that metric"] = len(runs) - len(measured)
    keys = tuple(_setting(name, measured) for name in by) if by else _varied(measured)
    return ExperimentComparison(
        experiment=experiment, by=keys, metrics=tuple(chosen), groups=_grouped(measured, keys, chosen),
        left_out=left_out,
    )  # fmt: skip


def format_comparison(compared: ExperimentComparison) -> str:
    """The table, the best of each metric marked with a star."""
    groups, metrics = compared.groups, compared.metrics
    heads = [*(key.removeprefix("stage.") for key in compared.by), "runs", *metrics]
    best = {metric: compared.best(metric) if len(groups) > 1 else None for metric in metrics}
    held_out = any(m.startswith("val/") for m in metrics) and any(g.held_out for g in groups)
    usual = Counter(_held_out(g) for g in groups).most_common(1)[0][0]
    rows = [[*heads, "held out"] if held_out else heads]
    for group in groups:
        cells = [f"{_mean_and_spread(group, metric)} {'*' if group is best[metric] else ' '}" for metric in metrics]
        if held_out:
            cells.append(f"{_held_out(group)} {' ' if _held_out(group) == usual else '!'}")
        rows.append([*group.setting, str(len(group.runs)), *cells])
    runs = count_noun(sum(len(g.runs) for g in groups), "run")
    lines = [f"{compared.experiment}: {runs}, {count_noun(len(groups), 'setting')}"]
    lines += columns(rows, left=len(compared.by))
    apart = [m for m in metrics if not compared.comparable(m)]
    marks = [f"* best {m} ({'lowest' if less_is_better(m) else 'highest'})" for m in metrics if best[m] is not None]
    if max((len(g.runs) for g in groups), default=1) > 1:
        marks.append("± is the 95% interval of the mean over seeds")
    lines += ["; ".join(marks)] if marks else []
    if apart:
        lines.append(f"! held-out rows differ or are unknown: {', '.join(apart)} of these cannot be compared")
    if compared.left_out:
        lines.append(f"left out{_format_left_out(compared.left_out)}")
    return "\n".join(lines)


def _held_out(group: Group) -> str:
    """Which rows a group was measured on, short; of several seeds each has its own."""
    return "+".join(digest[:6] for digest in sorted(group.held_out)) or "unknown"


def _mean_and_spread(group: Group, metric: str) -> str:
    """A mean to the last digit that its interval leaves any sense to."""
    mean, spread = group.mean(metric), group.spread(metric)
    if mean is None:
        return "-"
    if not spread:
        return f"{mean:.4g}"
    digits = min(8, max(0, 2 - math.floor(math.log10(spread))))
    return f"{mean:,.{digits}f} ± {spread:,.{digits}f}"


def _setting(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    params = {key for run in runs for key in run["params"] if not key.startswith("resumed-")}
    tags = {key for run in runs for key in run["tags"] if not key.startswith(("mlflow.", "hardware.", "version."))}
    return _full_name(name, params, "--by", tags)


def _full_name(name: str, there: set[str], flag: str, also: Collection[str] = ()) -> str:
    """A whole name, or the end of just one."""
    if name in there or name in also:
        return name
    ends = sorted(n for n in there if n.endswith((f".{name}", f"/{name}")))
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ConfigError(f"{flag} {name} may be {', '.join(ends)}; say which")
    every = sorted({*there, *also})
    raise ConfigError(
        f"{flag} {name}: no run has it{nearest(name, every) or '.'} There are {', '.join(every[:12])}, ..."
    )


def _usual_metric(runs: Sequence[Mapping[str, Any]]) -> str:
    names: Counter[str] = Counter(metric for run in runs for metric in run["metrics"])
    usual = [name for end in USUAL_METRICS for name in sorted(names) if name == end or name.endswith(f"/{end}")]
    if usual:
        return max(usual, key=lambda name: names[name])
    raise ConfigError(f"say what to compare: --metric {' | '.join(sorted(names)[:12]) or '(the runs have none)'}")


def _varied(runs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The settings in which the runs differ, but for seeds, places and names; their kind where they are of several."""
    values: dict[str, set[str]] = defaultdict(set)
    keys = {key for run in runs for key in run["params"] if not key.startswith("resumed-")}
    keys |= {key for run in runs for key in run["tags"] if key.startswith(_OVER_SEEDS)}  # places are tags
    for run in runs:
        for key in keys:
            values[key].add(value_of(run, key))
    several = len({run["tags"].get("sq.stage") for run in runs}) > 1
    varied = [
        key
        for key, different in sorted(values.items())
        if len(different) > 1
        and (not key.startswith(_IGNORED) or key.rpartition(".")[2] in _CHOOSES_ROWS)
        and (key == "model.name" or key.rpartition(".")[2] not in ("seed", "seeds", "name"))
    ]
    if "model.name" in varied and _is_named_by_seed(runs):
        varied.remove("model.name")
    copies = [key for key in varied if key.startswith("source.") and _is_copy(key, key.removeprefix("source."), runs)]
    if "model.name" in varied:
        copies += [key for key in varied if key.startswith("model.") and _follows(key, "model.name", runs)]
    varied = [key for key in varied if key not in copies]
    every = varied
    if len(varied) > 4:  # runs of different kinds have little in common
        varied = [key for key in varied if "-" not in values[key]][:4]
    over_seeds = sorted(key for key in values if key.startswith(_OVER_SEEDS))
    others = (key for key in (*every, *over_seeds) if key not in varied and len(values[key]) > 1)
    for key in others:
        of_seed: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for run in runs:
            of_seed[tuple(value_of(run, k) for k in ("sq.stage", *varied, "seed"))].add(value_of(run, key))
        if any(len(different) > 1 for different in of_seed.values()):
            varied.append(key)
    return (("sq.stage",) if several else ()) + tuple(varied)


def _is_copy(key: str, other: str, runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a setting is in every run what the other is: `source.limit` is `limit` where it is not set apart."""
    return all(value_of(run, key) == value_of(run, other) for run in runs)


def _is_named_by_seed(runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the models' names differ in nothing but the seed that they end with: student-s0, student-s1."""
    seeds = {value_of(run, "seed") for run in runs}
    return len(seeds) > 1 and 1 == len(
        {value_of(run, "model.name").removesuffix(value_of(run, "seed")) for run in runs}
    )


def _follows(key: str, other: str, runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether another setting decides this one: a model's name its dtype and chat."""
    return key != other and len({(value_of(run, key), value_of(run, other)) for run in runs}) == len(
        {value_of(run, other) for run in runs}
    )


def _grouped(runs: Sequence[Mapping[str, Any]], keys: Sequence[str], metrics: Sequence[str]) -> list[Group]:
    groups: dict[tuple[str, ...], Group] = {}
    for run in runs:
        setting = tuple(value_of(run, key) for key in keys)
        group = groups.setdefault(setting, Group(setting=setting, values={}, runs=[]))
        group.runs.append(run["id"])
        if "sq.held_out" in run["tags"]:
            group.held_out.add(run["tags"]["sq.held_out"])
        for metric in metrics:
            if metric in run["metrics"] and math.isfinite(run["metrics"][metric]):
                group.values.setdefault(metric, []).append(run["metrics"][metric])
    return sorted(groups.values(), key=lambda g: [_order(text) for text in g.setting])


def _order(text: str) -> tuple[int, float, str]:
    number = as_number(text)
    return (1, 0.0, text) if number is None else (0, number, "")


def as_number(text: str) -> float | None:
    """The number that a setting is, if it is one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _format_left_out(left: Mapping[str, int]) -> str:
    return ": " + ", ".join(f"{count} {what}" for what, count in left.items()) if left else ""
