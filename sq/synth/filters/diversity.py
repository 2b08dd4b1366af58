"""Keeps a share of the questions and prefers sparse regions: each is drawn with a weight of one over its density.

The density of a question is the sum of J(q, other)^rows over all questions, where J is the Jaccard similarity of their
word shingles. How many share its bucket, over some bands of MinHash, is an unbiased estimate of it, without comparing
pairs (Coleman and Shrivastava, "Sub-linear RACE sketches", 2020); weights of one over it make a sample that covers the
space evenly ("One-pass diversified sampling", 2022). Rows wait on disk; 4 bytes a band and row are held in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sq.core.config import setting
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem
from sq.synth.filters.minhash import MinHash
from sq.synth.filters.signatures import PROCESSES, Signer, blocks_of, open_questions, signing_processes
from sq.synth.filters.spool import Spool, draw


@dataclass(frozen=True, kw_only=True)
class DiversityFilter(FilterConfig):
    """A sample of the questions that is even over the space of questions, not over its input."""

    ignored_fields: ClassVar[tuple[str, ...]] = ("processes",)

    keep: float = setting(0.5, gt=0, le=1, help="share of the questions that stay")
    power: float = setting(1.0, ge=0, help="the weight is the density to minus this; 0: a plain random sample")
    shingle: int = setting(2, ge=1, help="words in a shingle")
    rows: int = setting(3, ge=1, help="the density is of similarity to this power: more look at nearer questions only")
    bands: int = setting(16, ge=1, help="more measure the density more exactly, and cost more")
    processes: int | None = setting(
        None, ge=1, help=f"of this machine that hash the texts; default: one a core, at most {PROCESSES}"
    )

    @property
    def needs_all_rows(self) -> bool:
        """What stays depends on what else there is."""
        return True

    @property
    def share_kept(self) -> float | None:
        """As many as are asked for."""
        return self.keep

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Remove all but the share that is kept, each with its density; nothing goes on before the last row is in."""
        signer = Signer(
            MinHash(bands=self.bands, rows=self.rows, width=self.shingle), signing_processes(self.processes)
        )
        buckets, draws = array("I"), array("d")
        with Spool(context.scores) as spool:
            for block, signatures in signer.sign_blocks(blocks_of(cases), open_questions):
                buckets.frombytes((signatures.bands >> np.uint64(32)).astype(np.uint32).tobytes())
                for case in block:
                    spool.add(case)
                    if case.reason is None:
                        draws.append(draw(context.seed, "diversity", case.row["id"]))
            density = densities(np.frombuffer(buckets, dtype=np.uint32).reshape(len(draws), self.bands))
            kept = sample(density, np.frombuffer(draws), round(self.keep * len(draws)), self.power)
            if len(density):
                context.metrics["diversity/density"] = float(density.mean())
                context.metrics["diversity/density_kept"] = float(density[kept].mean()) if kept.any() else 0.0
            number = 0
            for case in spool:
                if case.reason is None:
                    if not kept[number]:
                        case.remove("density", f"{density[number]:.1f} questions like it, itself among them")
                    number += 1
                yield case


def densities(buckets: NDArray[np.uint32]) -> NDArray[np.float64]:
    """The mean over bands of how many questions are in a question's bucket; `buckets` is [question, band]."""
    density = np.zeros(len(buckets))
    for band in range(buckets.shape[1]):
        _, place, counts = np.unique(buckets[:, band], return_inverse=True, return_counts=True)
        density += counts[place]
    density /= max(1, buckets.shape[1])
    return density


def sample(
    density: NDArray[np.float64], draws: NDArray[np.float64], count: int, power: float = 1.0
) -> NDArray[np.bool_]:
    """Which `count` stay: drawn without replacement, the weight density to minus `power` (Efraimidis and Spirakis)."""
    times = -np.log(draws) * density**power
    kept = np.zeros(len(density), dtype=bool)
    kept[np.argsort(times, kind="stable")[:count]] = True
    return kept
