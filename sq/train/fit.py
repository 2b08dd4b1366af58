"""From a `TrainJob` to exported weights: check, tokenise, load, train with Lightning, export, say where.

The same command continues from the last checkpoint; a finished run is not run again. Layout of `output_dir`: `model/`
(Hugging Face form), `train.json` (the config that made it, and the final figures), `rejects.jsonl`; while it runs also
`checkpoints/` and `cache/`.
"""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.chat import ChatFormat
from sq.core.config import conf_dir, flatten
from sq.core.count import count_noun
from sq.core.errors import ConfigError, RowError
from sq.core.files import DirectoryLock
from sq.core.quoting import quote_override
from sq.core.recovery import make_directory
from sq.core.tracking import DataRef, track
from sq.models.load import NEW_TINY, eos_ids, fingerprint, load_tokenizer
from sq.train.cache import cache_directory, tokens_key
from sq.train.config import TrainJob
from sq.train.launch import environment_kept, processes, rank
from sq.train.record import NAME, identity, plan_to_follow, read_record, update_record, write_record
from sq.train.stages import DifficultyStage, PretrainStage, QFTStage, QPOStage, RewardStage, SFTStage, StageConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sq.train.rows import Task, TrainingRows

log = logging.getLogger(__name__)


def fit(job: TrainJob) -> Path:
    """Run the job to its end, from where an earlier run of the same command stopped."""
    with environment_kept(), processes(job):
        return _fit(job)


def _fit(job: TrainJob) -> Path:
    from sq.train.checkpoints import checkpoints
    from sq.train.rows import REJECTS, row_limit, tokenized_rows
    from sq.train.setup import check_machine, resolve_precision

    output, first = Path(job.output_dir), rank() == 0
    if not first:  # one process speaks, and one is tracked
        logging.getLogger("sq").setLevel(logging.ERROR)
        job = replace(job, tracking=replace(job.tracking, enabled=False))
    tokenizer, chat, task = _prepared(job)
    job = resolve_precision(job)
    check_machine(job)
    limit = row_limit(job, tokenizer.model_max_length)
    decided = tokens_key(job, task, limit)
    weights = f"new:{job.seed}" if job.model.path == NEW_TINY else fingerprint(job.model)
    mine = identity(job, data=decided, model=weights)
    record = read_record(output, mine) or {"config": mine}
    if "figures" in record and (output / "model").is_dir():
        log.info("%s: already trained -> %s", job.stage.name, output / "model")
        return output / "model"
    plan = plan_to_follow(job, record) if checkpoints(output / "checkpoints") else None
    _make(output)
    lock = DirectoryLock(output) if first else None
    try:
        try:
            data = tokenized_rows(job, task, limit, decided, cache_directory(job))
        except RowError as error:
            _leave_nothing(job)
            raise RowError(f"{str(error).replace('columns={', 'data.columns={')}{_whence(job)}") from error
        with track(
            job.tracking, stage=job.stage.name, params=flatten(job), inputs=[_reference(job, data)],
            directory=output, identity=mine,
        ) as run:  # fmt: skip
            if first:
                write_record(output, {**record, "run": run.id, "held_out": data.held_out_digest})
                if len(data.held_out):
                    run.tag("sq.held_out", data.held_out_digest)
                shutil.copyfile(data.directory / REJECTS, output / REJECTS)
            started = time.monotonic()
            from sq.train.loop import train

            metrics = train(job, tokenizer, chat, data, weights, run, plan)
            if first:
                run.output("model", str(output / "model"), digest="", rows=len(data.train))
        if first:  # done only once its run is: a training that is passed over later would stay killed there
            seconds = time.monotonic() - started
            told = {"rows": len(data.train), "tokens": round(metrics["train/tokens"]), "seconds": round(seconds, 1)}
            update_record(output, figures=metrics, **told)
            _finish(job, data, metrics, seconds)
    finally:
        if lock is not None:
            lock.release()
    return output / "model"


def _make(output: Path) -> None:
    """The run's directory, unless it is another program's."""
    others = [name for name in ("manifest.json", "model") if (output / name).exists()]
    if others and not (output / NAME).exists():
        raise ConfigError(f"{output} holds {others[0]}, which no training put there; choose a new output_dir=")
    make_directory(output)


def _leave_nothing(job: TrainJob) -> None:
    """No row, no run: the directory goes too, if it held nothing else."""
    if not job.trainer.cache:
        shutil.rmtree(cache_directory(job), ignore_errors=True)
    with suppress(OSError):
        Path(job.output_dir).rmdir()


def _prepared(job: TrainJob) -> tuple[PreTrainedTokenizerFast, ChatFormat, Task]:
    """Tokenizer, chat format (its contract checked) and what the stage makes of a row, before any weight is loaded."""
    from sq.train import pretrain

    new = job.model.path == NEW_TINY
    if new and not isinstance(job.stage, PretrainStage):
        raise ConfigError(
            f"model={job.model.name} has no weights yet; make some with stage=pretrain, or choose another model"
        )
    tokenizer = pretrain.new_tokenizer(job) if new else load_tokenizer(job.model)
    ends = () if new else eos_ids(job.model)
    chat = ChatFormat.from_tokenizer(tokenizer, job.model.chat, eos_ids=ends, key="model.chat")
    if isinstance(job.stage, PretrainStage):
        return tokenizer, chat, pretrain.task(job, chat, tokenizer)
    return tokenizer, chat, _task(job, job.stage, chat, tokenizer)


def _task(job: TrainJob, stage: StageConfig, chat: ChatFormat, tokenizer: PreTrainedTokenizerFast) -> Task:
    from sq.train import difficulty, qft, qpo, reward, sft

    if isinstance(stage, QFTStage):
        return qft.task(job, chat)
    if isinstance(stage, QPOStage):
        return qpo.task(job, chat)
    if isinstance(stage, DifficultyStage):
        return difficulty.task(job, chat)
    if isinstance(stage, RewardStage):
        return reward.task(job, chat, tokenizer)
    if isinstance(stage, SFTStage):
        return sft.task(job, chat)
    raise ConfigError(f"stage={stage.name} is not a training stage")


def _reference(job: TrainJob, data: TrainingRows) -> DataRef:
    name = job.data.input or ("+".join(job.data.mix or ()) or f"domain {job.domain.name}")
    return DataRef(name=name, path=job.data.input or "", digest=data.digest, rows=len(data.train) + len(data.held_out))


def _whence(job: TrainJob) -> str:
    """Where the rows of a stage are made that the domain's own seeds do not have."""
    makers = {QPOStage: "stage=rewrite", DifficultyStage: "stage=fail_rate", RewardStage: "stage=answers"}
    maker = makers.get(type(job.stage))
    if maker is None or job.data.input or job.data.mix:
        return ""
    return f". stage={job.stage.name} reads what synthesize.py {maker} makes: give data.input=<its output_dir>"


def _finish(job: TrainJob, data: TrainingRows, metrics: dict[str, Any], seconds: float) -> None:
    output = Path(job.output_dir)
    shutil.rmtree(output / "checkpoints", ignore_errors=True)
    if not job.trainer.cache:
        shutil.rmtree(cache_directory(job), ignore_errors=True)
    rejected = sum(n for reason, n in data.counts.items() if reason != "truncated")
    given = count_noun(len(data.train) + len(data.held_out) + rejected, "row")
    before = f" (before {metrics['val/loss_before']:.4f})" if "val/loss_before" in metrics else ""
    held_out = f", held out {metrics['val/loss']:.4f}{before}" if "val/loss" in metrics else ""
    log.info(
        "%s: %s in, %s rejected -> %s | loss %.4f%s | %.0f s | next: %s",
        job.stage.name, given, f"{rejected:,}", output / "model",
        metrics.get("train/loss", float("nan")), held_out, seconds, next_command(job, output / "model"),
    )  # fmt: skip


def next_command(job: TrainJob, model: Path) -> str:
    """What one would do with the weights."""
    stage, name, path = job.stage, job.model.name, quote_override("model.path", model)
    # The model's YAML says how it is spoken to where its template does not.
    known = f"model={name} " if (conf_dir() / "model" / f"{name}.yaml").is_file() else ""
    tuned = f"{known}{quote_override('model.name', f'{name}-{stage.name}')} {path}"
    domain = quote_override("domain", job.domain.name)
    if isinstance(stage, QFTStage | QPOStage):
        return f"python synthesize.py stage=questions {domain} {tuned}"
    if isinstance(stage, DifficultyStage):
        scorer = f"filters.difficulty.model.name=difficulty {quote_override('filters.difficulty.model.path', model)}"
        return f"python synthesize.py stage=filter {domain} filters=[difficulty] {scorer} input=outputs/questions-tiny"
    if isinstance(stage, RewardStage):
        return f"python synthesize.py stage=select {domain} engine=hf {path} input=outputs/answers-tiny"
    if isinstance(stage, PretrainStage):
        return f"python train.py stage=sft {domain} {known}{path}"
    benchmarks = ",".join(job.domain.benchmarks)
    return f"python evaluate.py {f'benchmark=[{benchmarks}] ' if benchmarks else ''}{tuned}"
