"""From a `TrainJob` to exported weights: rows, token sequences, packs, Lightning's Trainer, export.

The same command continues from the last checkpoint; a finished run is not run again. Layout of `output_dir`: `model/`
(Hugging Face form), `train.json` (the config that made it, and the final metrics), `rejects.jsonl`; while it runs also
`checkpoints/` and `cache/`.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.chat import ChatFormat
from sq.core.config import conf_dir, flatten
from sq.core.errors import ConfigError, RowError
from sq.core.files import DirectoryLock
from sq.core.metrics import TRAINING, format_value
from sq.core.quoting import entry_command, quote_override
from sq.core.recovery import make_directory
from sq.core.rejects import TRAINING_FILE
from sq.core.tracking import DataRef, ModelRef, Run, track
from sq.domains.base import DomainConfig
from sq.models.load import NEW_TINY, ModelConfig, eos_ids, fingerprint, load_tokenizer
from sq.train.config import TrainerConfig, TrainJob
from sq.train.launch import rank
from sq.train.record import (
    NAME,
    identity,
    plan_to_follow,
    read_record,
    references_key,
    update_record,
    write_record,
)
from sq.train.stage import RowContext, StageConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sq.train.rows import RowReader, TrainingRows

log = logging.getLogger(__name__)


def fit(job: TrainJob) -> Path:
    """Run the job to its end in this process, of several perhaps, from where the same command stopped earlier."""
    stage, output, first = job.stage, Path(job.output_dir), rank() == 0
    if not first:  # one process speaks, and one is tracked
        logging.getLogger("sq").setLevel(logging.ERROR)
    log.info("%s: checking data and weights of model=%s", stage.name, job.model.name)
    given = prepare(job)
    record = read_record(output, given.identity) or {"config": given.identity}
    if "figures" in record and (output / "model").is_dir():
        log.info("%s: already trained -> %s", stage.name, output / "model")
        return output / "model"
    planned = plan_to_follow(record, given.trainer, output)
    with _claimed(output, first):
        rows = _read_rows(given, stage)
        tracking = replace(job.tracking, enabled=job.tracking.enabled and first)
        with track(
            tracking, stage=stage.name, params=given.settings, inputs=[given.data_ref(rows)],
            directory=output, identity=given.identity,
        ) as run:  # fmt: skip
            if first:
                _record_rows(output, record, rows, run)
            started = time.monotonic()
            metrics = _train(job, given, rows, run, planned)
            if first:
                run.output("model", str(output / "model"), digest="", rows=len(rows.train))
                _log_model(run, job.tracking.run_name or f"{job.model.name}-{stage.name}", given, rows, metrics)
        if first:  # done only once its run is: a training that is passed over later would stay killed there
            seconds, tokens = round(time.monotonic() - started, 1), round(metrics["train/tokens"])
            update_record(output, figures=metrics, rows=len(rows.train), tokens=tokens, seconds=seconds)
            shutil.rmtree(output / "checkpoints", ignore_errors=True)
            given.drop_cache()
            log.info(
                "%s: %s -> %s | %s | %.0f s | next: %s",
                stage.name, rows.summary, output / "model", _format_losses(metrics), seconds,
                next_command(stage, job.model, job.domain, output / "model"),
            )  # fmt: skip
    return output / "model"


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """What is checked and known of a run before any row is read or weight is loaded."""

    trainer: TrainerConfig
    """With a precision that is not `auto`."""
    tokenizer: PreTrainedTokenizerFast
    reader: RowReader
    settings: dict[str, Any]
    tokens: str
    """The key of the tokenised rows."""
    weights: str
    """The fingerprint of the weights to begin with."""
    cache: Path
    shared: bool
    """Whether the cache is the user's own, and stays."""
    output: Path

    @property
    def identity(self) -> dict[str, str]:
        """What decides the weights to come."""
        return identity(self.settings, data=self.tokens, model=self.weights)

    def data_ref(self, rows: TrainingRows) -> DataRef:
        """The source of the rows, as MLflow has it."""
        source = self.reader.source
        name = source.input or ("+".join(source.mix or ()) or f"domain {self.reader.domain.name}")
        count = len(rows.train) + len(rows.held_out)
        return DataRef(name=name, path=source.input or "", digest=self.tokens, rows=count)

    def drop_cache(self) -> None:
        """Delete what only this run needed."""
        if not self.shared:
            shutil.rmtree(self.cache, ignore_errors=True)


def prepare(job: TrainJob) -> PreparedRun:
    """Tokenizer, chat format (its contract checked), how rows become tokens, and the keys of all that."""
    from sq.train.hardware import checked_trainer
    from sq.train.rows import RowReader, row_limit

    trainer = checked_trainer(job.trainer, job.stage)
    settings = flatten(replace(job, trainer=trainer))
    model, stage, domain, seed = job.model, job.stage, job.domain.create(), job.seed
    new = model.path == NEW_TINY
    if new and not stage.new_weights:
        raise ConfigError(f"model={model.name} has no weights yet; make some with stage=pretrain, or choose another")
    if new and trainer.lora.rank:
        raise ConfigError(
            f"trainer.lora.rank={trainer.lora.rank}: adapters are merged into the weights of a model, and "
            f"model={model.name} has none yet; set trainer.lora.rank=0"
        )
    tokenizer = stage.new_tokenizer(domain, seed) if new else load_tokenizer(model)
    chat = ChatFormat.from_tokenizer(tokenizer, model.chat, eos_ids=() if new else eos_ids(model), key="model.chat")
    context = RowContext(chat=chat, tokenizer=tokenizer, domain=domain, source=job.data, seed=seed)
    limit = row_limit(job.data, stage, model, tokenizer.model_max_length)
    reader = RowReader(
        source=job.data, domain=domain, chat=chat, encoding=stage.encoding(context), limit=limit,
        validation=stage.validation, seed=seed,
    )  # fmt: skip
    return PreparedRun(
        trainer=trainer, tokenizer=tokenizer, reader=reader, settings=settings, tokens=reader.key(settings),
        weights=f"new:{seed}" if new else fingerprint(model),
        cache=Path(trainer.cache or Path(job.output_dir) / "cache"), shared=trainer.cache is not None,
        output=Path(job.output_dir),
    )  # fmt: skip


def _train(
    job: TrainJob, given: PreparedRun, rows: TrainingRows, run: Run, planned: Mapping[str, int] | None
) -> dict[str, float]:
    """From rows to packs, steps and `model/`: the final metrics. A stopped run goes on as `planned`."""
    from sq.train.export import write_model
    from sq.train.hardware import device_name, tf32_products
    from sq.train.model import fit_to_packs, trainable_model
    from sq.train.module import TrainingModule
    from sq.train.packs import training_packs
    from sq.train.trainer import prepare_process, run_training

    stage, trainer, seed, output = job.stage, given.trainer, job.seed, given.output
    prepare_process(trainer.threads, seed)
    log.info("%s: %s; loading model=%s", stage.name, rows.summary, job.model.name)
    with tf32_products(trainer):
        trained = trainable_model(
            job.model, trainer, stage, tokenizer=given.tokenizer, rows=rows, seed=seed, weights=given.weights
        )
        loss = stage.make_loss(trained)
        packs = training_packs(rows, stage, loss, prefix=trained.prefix, world=trainer.world, seed=seed, record=planned)
        if rank() == 0:
            update_record(output, plan=packs.plan.record())
        fit_to_packs(trained.model, loss, trainer, packs.largest)
        references = None
        if stage.needs_reference:
            key = references_key(
                given.settings, tokens=given.tokens, weights=given.weights, plan=packs.plan,
                attention=trained.attention, device=device_name(trainer),
            )  # fmt: skip
            references = given.cache / f"reference-{key}.safetensors"
        module = TrainingModule(
            trained, loss, rows, stage=stage, trainer=trainer, steps=packs.train.steps, seed=seed,
            checkpoints=output / "checkpoints",
        )  # fmt: skip
        write = partial(
            write_model, output / "model", trained, config=job.model, lora=trainer.lora, head_note=loss.head_note,
            tokenizer=given.tokenizer, chat=given.reader.chat,
            origin={"stage": stage.name, "run": run.id, "seed": seed},
        )  # fmt: skip
        return run_training(module, packs, run, references, write)


@contextmanager
def _claimed(output: Path, first: bool) -> Iterator[None]:
    """The run's directory, unless it is another program's, locked by the first process."""
    others = [name for name in ("manifest.json", "model") if (output / name).exists()]
    if others and not (output / NAME).exists():
        raise ConfigError(f"{output} holds {others[0]}, which no training put there; choose a new output_dir=")
    make_directory(output)
    lock = DirectoryLock(output) if first else None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _read_rows(given: PreparedRun, stage: StageConfig) -> TrainingRows:
    try:
        return given.reader.read(given.cache / f"tokens-{given.tokens}")
    except RowError as error:
        source = given.reader.source
        given.drop_cache()
        with suppress(OSError):  # no row, no run: the directory goes too, if it held nothing else
            given.output.rmdir()
        text = str(error).replace("columns={", "data.columns={")
        if stage.reads and not (source.input or source.mix):
            text += (
                f". stage={stage.name} reads what synthesize.py stage={stage.reads} makes: give "
                "data.input=<its output_dir>"
            )
        raise RowError(text) from error


def _record_rows(output: Path, record: Mapping[str, Any], rows: TrainingRows, run: Run) -> None:
    held_out = rows.held_out.digest()
    write_record(output, {**record, "run": run.id, "held_out": held_out})
    if len(rows.held_out):
        run.tag("sq.held_out", held_out)
    shutil.copyfile(rows.directory / TRAINING_FILE, output / TRAINING_FILE)


def _log_model(run: Run, name: str, given: PreparedRun, rows: TrainingRows, metrics: Mapping[str, float]) -> None:
    """The exported model in MLflow: losses in training are of the input, those held out of the held-out rows."""
    settings, path = given.settings, given.output / "model"
    model = ModelRef(
        name=name, path=str(path.absolute()), digest=fingerprint(ModelConfig(name=name, path=str(path))),
        stage=str(settings["stage.name"]), exported=True,
        params={k: v for k, v in settings.items() if k.startswith(("stage.", "data.", "model.", "seed"))},
    )  # fmt: skip
    held_out = DataRef(name="held out", digest=rows.held_out.digest())
    for data, front in ((given.data_ref(rows), "train/"), (held_out, "val/")):
        if own := {k: v for k, v in metrics.items() if k.startswith(front)}:
            run.model(model, own, data)


def _format_losses(metrics: Mapping[str, float]) -> str:
    loss = {name: format_value(name, value, TRAINING) for name, value in metrics.items()}
    text = f"loss {loss.get('train/loss', 'nan')}"
    if "val/loss" in loss:
        text += f", held out {loss['val/loss']}"
    return text + (f" (before {loss['val/loss_before']})" if "val/loss_before" in loss else "")


def next_command(stage: StageConfig, model: ModelConfig, domain: DomainConfig, weights: Path) -> str:
    """What one would do with the weights."""
    path = quote_override("model.path", weights)
    # The model's YAML says how it is spoken to where its template does not.
    own = f"model={model.name} " if (conf_dir() / "model" / f"{model.name}.yaml").is_file() else ""
    script, _, overrides = stage.next_command.partition(" ")
    return f"{entry_command(script)} " + overrides.format(
        domain=quote_override("domain", domain.name),
        model=own,
        path=path,
        tuned=f"{own}{quote_override('model.name', f'{model.name}-{stage.name}')} {path}",
        benchmarks=f"benchmark=[{','.join(domain.benchmarks)}] " if domain.benchmarks else "",
    )
