"""The plot and the CSV of a compared experiment: a line for each second setting over the first one."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.recipe.experiment import ExperimentComparison, Group, as_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a6559d", "#b07a00", "#3d9bd1")
MARKERS = ("o", "s", "^", "D", "v", "P")


def write(compared: ExperimentComparison, directory: Path) -> tuple[Path, Path]:
    """Write NAME.png and NAME.csv; where they are."""
    directory.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in compared.experiment)
    table, picture = directory / f"{name}.csv", directory / f"{name}.png"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        heads = [text for m in compared.metrics for text in (m, f"{m} (95% half width)", f"{m} (values)")]
        writer.writerow([*compared.by, "runs", *heads, "held out"])
        for group in compared.groups:
            cells: list[Any] = []
            for metric in compared.metrics:
                numbers = ["" if x is None else f"{x:.8g}" for x in (group.mean(metric), group.spread(metric))]
                cells += [*numbers, " ".join(f"{v:.8g}" for v in group.values.get(metric, []))]
            writer.writerow([*group.setting, len(group.runs), *cells, " ".join(sorted(group.held_out))])
    figure(compared).savefig(picture, dpi=150, bbox_inches="tight", facecolor="white")
    return picture, table


def figure(compared: ExperimentComparison) -> Any:
    """One panel a metric."""
    from matplotlib.figure import Figure

    count = len(compared.metrics)
    picture = Figure(figsize=(6.4 * count, 4.2), layout="constrained")
    for panel, metric in zip(picture.subplots(1, count, squeeze=False)[0], compared.metrics, strict=True):
        _draw(panel, compared, metric)
        panel.grid(axis="y", alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    seeds = max((len(g.runs) for g in compared.groups), default=1)
    note = f"; mean and 95% interval of {seeds} seeds" if seeds > 1 else ""
    note += "" if all(map(compared.comparable, compared.metrics)) else "; held-out rows differ, not to be compared"
    picture.suptitle(f"{compared.experiment}{note}", fontsize=11)
    return picture


def _draw(panel: Axes, compared: ExperimentComparison, metric: str) -> None:
    """The first setting along the axis, a line for each combination of the others, the best one marked."""
    series: dict[tuple[str, ...], list[Group]] = {}
    for group in compared.groups:
        if group.mean(metric) is not None:
            series.setdefault(group.setting[1:], []).append(group)
    names = list(dict.fromkeys(_first(group) for group in compared.groups))
    numbers = [as_number(name) for name in names]
    places = {
        n: float(i if x is None or None in numbers else x) for i, (n, x) in enumerate(zip(names, numbers, strict=True))
    }
    values = sorted(places.values())
    log = None not in numbers and len(values) > 2 and values[0] > 0 and values[-1] / values[0] >= 8
    if log:
        panel.set_xscale("log")
    best = compared.best(metric) if len(compared.groups) > 1 else None
    for index, (setting, groups) in enumerate(series.items()):
        shift = 0.012 * (index - (len(series) - 1) / 2)  # so that intervals stand beside each other
        xs = [_shifted(places[_first(g)], shift, values, log) for g in groups]
        ys = [g.mean(metric) or 0.0 for g in groups]
        spread = [g.spread(metric) or 0.0 for g in groups]
        label = ", ".join(f"{_short(k)} {v}" for k, v in zip(compared.by[1:], setting, strict=True))
        style: dict[str, Any] = {"marker": MARKERS[index % 6], "color": COLOURS[index % 6], "capsize": 3}
        style |= {} if None not in numbers else {"ls": ""}
        panel.errorbar(xs, ys, yerr=spread if any(spread) else None, label=label, **style)
        if best in groups:
            at = groups.index(best)
            panel.plot([xs[at]], [ys[at]], marker="*", ms=15, color="black", ls="", zorder=5, label="best")
    panel.set_xticks(list(places.values()), [n if x is None else f"{x:g}" for n, x in zip(names, numbers, strict=True)])
    panel.minorticks_off()
    panel.set(xlabel=_short(compared.by[0]) if compared.by else "", ylabel=metric)
    if any(panel.get_legend_handles_labels()[1]):
        panel.legend(frameon=False, fontsize=9)


def _first(group: Group) -> str:
    return group.setting[0] if group.setting else "all"


def _shifted(value: float, shift: float, values: Sequence[float], log: bool) -> float:
    """A place on the axis a little beside `value`, by a share of the axis."""
    width = values[-1] / values[0] if log else values[-1] - values[0]
    return float(value * width**shift) if log else value + shift * width


def _short(key: str) -> str:
    return key.removeprefix("stage.").removeprefix("sq.")
