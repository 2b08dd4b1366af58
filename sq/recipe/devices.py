"""Which stages may run side by side: each GPU serves one stage at a time, and the cores are shared.

On this machine a stage sees its own GPUs alone. On a cluster one stage has GPUs at a time: Ray and the launcher do not
know which of them an evaluation has on the machine of `sq run`.
"""

from __future__ import annotations

import os
from typing import Any

from sq.core.count import count_noun
from sq.core.errors import ConfigError
from sq.core.provenance import hardware, visible_gpus
from sq.engine.config import EngineConfig
from sq.eval.config import EvalJob
from sq.recipe.profile import ProfileConfig
from sq.synth.config import SynthJob
from sq.synth.filter import FilterStage, needs_all_rows
from sq.synth.launchers import refuse_too_few
from sq.train.config import TrainJob


class Devices:
    """The GPUs of the machine or the cluster, and the machine's cores, lent to stages."""

    def __init__(self, parallel: int, profile: ProfileConfig) -> None:
        facts = hardware()
        self.cores = int(facts["cores"])
        here = visible_gpus(facts["gpus"])
        self._is_cluster = profile.address is not None
        self.gpus = [str(i) for i in range(profile.all_gpus)] if self._is_cluster else here[: profile.gpus or None]
        if not self._is_cluster and len(here) < profile.gpus:
            fix = f"profile.gpus={len(here)} or " if here else ""
            raise ConfigError(
                f"profile={profile.name} is for {count_noun(profile.gpus, 'GPU')}, and {len(here) or 'none'} can be "
                f"seen here: give {fix}another profile= (none: what is here)"
            )
        self._parallel = parallel
        self._lent: dict[str, list[str]] = {}

    @property
    def description(self) -> str:
        """The machine in a few words."""
        where = " of the cluster" if self._is_cluster else ""
        gpus = f", {count_noun(len(self.gpus), 'GPU')}{where}" if self.gpus else ""
        several = f", up to {self._parallel} stages side by side" if self._parallel > 1 else ""
        return f"{self.cores} cores{gpus}{several}"

    def take(self, stage: str, job: Any) -> bool:
        """Lend a stage the GPUs that it needs; False where they are not free now."""
        need = min(gpus_needed(job), len(self.gpus))
        taken = {gpu for gpus in self._lent.values() for gpu in gpus}
        free = [gpu for gpu in self.gpus if gpu not in taken]
        if len(free) < need or (self._is_cluster and need and taken):
            return False
        self._lent[stage] = free[:need]
        return True

    def give(self, stage: str) -> int:
        """Take them back; how many they were."""
        return len(self._lent.pop(stage, []))

    def environment(self, stage: str) -> dict[str, str]:
        """The variables by which a stage sees only its own devices; nothing, where it has the machine to itself."""
        if self._parallel == 1:
            return {}
        apart = self.gpus and not self._is_cluster
        gpus = {"CUDA_VISIBLE_DEVICES": ",".join(self._lent.get(stage, []))} if apart else {}
        threads = str(max(1, self.cores // self._parallel))
        return gpus | {name: threads for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name not in os.environ}


def refuse_more_gpus(job: Any, profile: ProfileConfig) -> None:
    """Raise a `ConfigError` where the job's engines need more GPUs than the profile has, or than are here."""
    gpus = profile.all_gpus or len(visible_gpus(hardware()["gpus"]))
    where = f"profile={profile.name} has" if profile.all_gpus else "this machine shows"
    if not gpus or not isinstance(job, SynthJob | EvalJob):
        return
    if isinstance(job, EvalJob):
        refuse_too_few(gpus, 1, max(_of_engine(job.engine), _of_engine(job.reward_engine)), where)
    elif job.cluster.address is None and job.gpus_each:
        refuse_too_few(gpus, gpus_needed(job) // job.gpus_each, job.gpus_each, where)


def gpus_needed(job: Any) -> int:
    """How many GPUs a job's processes would use where there are any."""
    if isinstance(job, TrainJob):
        return 0 if job.trainer.accelerator == "cpu" else job.trainer.world
    if isinstance(job, SynthJob):
        alone = isinstance(job.stage, FilterStage) and needs_all_rows(job)
        return job.gpus_each * (1 if alone else job.workers)
    return _of_engine(job.engine) + (_of_engine(job.reward_engine) if isinstance(job, EvalJob) else 0)


def _of_engine(engine: EngineConfig | None) -> int:
    return engine.gpus if engine else 0
