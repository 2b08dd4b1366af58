"""From a `TrainJob` to exported weights: check, load, train with Lightning, export, say where.

The same command continues from the last checkpoint; a finished run is not run again. Layout of `output_dir`: `model/`
(Hugging Face form), `checkpoints/`, `train.json` (the config that made it, and the final figures).
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.config import flatten
from sq.core.errors import ConfigError, SqError
from sq.core.tracking import Run, track
from sq.train.config import Precision, PretrainStage, SFTStage, TrainJob

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from sq.data.tokens import TokenRows
    from sq.train.base import BaseModule

log = logging.getLogger(__name__)


def fit(job: TrainJob) -> Path:
    """Run the job to its end, from where an earlier run of the same command stopped."""
    output = Path(job.output_dir)
    identity = _identity(job)
    done = _earlier(output, identity)
    if done:
        log.info("%s: already trained -> %s", job.stage.name, output / "model")
        return output / "model"
    tokenizer, rows, held_out = _tokenised(job)
    output.mkdir(parents=True, exist_ok=True)
    record = output / "train.json"
    record.write_text(json.dumps({"config": identity}, indent=1, sort_keys=True))
    with track(job.tracking, stage=job.stage.name, params=flatten(job), inputs=[]) as run:
        started = time.monotonic()
        module, figures = _train(job, tokenizer, rows, held_out, output, run)
        from sq.models.load import export

        origin = {"stage": job.stage.name, "base": job.model.path, "run": run.id, "seed": job.seed}
        model = export(module.model, tokenizer, output / "model", dtype="bfloat16", origin=origin)
        run.output("model", str(model), digest="", rows=len(rows))
    record.write_text(json.dumps({"config": identity, "figures": figures}, indent=1, sort_keys=True))
    shutil.rmtree(output / "checkpoints", ignore_errors=True)
    log.info(
        "%s: %s rows in -> %s | loss %.4f, held out %.4f | %.0f s | next: model.path=%s",
        job.stage.name, f"{len(rows):,}", model, figures["train/loss"], figures.get("val/loss", float("nan")),
        time.monotonic() - started, model,
    )  # fmt: skip
    return model


def _identity(job: TrainJob) -> dict[str, Any]:
    """What decides the weights: all of the config but where and how it is watched."""
    left_out = ("output_dir", "tracking.", "trainer.checkpoint_every", "trainer.keep", "trainer.log_every", "trainer.threads")
    return {k: str(v) for k, v in flatten(job).items() if not k.startswith(left_out)}


def _earlier(output: Path, identity: dict[str, Any]) -> bool:
    """Whether `output` holds this very run, finished; a different run there is refused."""
    record = output / "train.json"
    if not record.exists():
        return False
    earlier = json.loads(record.read_text())
    keys = sorted(k for k in identity | earlier["config"] if identity.get(k) != earlier["config"].get(k))
    if keys:
        differ = ", ".join(f"{k} ({earlier['config'].get(k)} there, {identity.get(k)} now)" for k in keys)
        raise ConfigError(f"{output} holds a run with another configuration: {differ}. Give another output_dir=, or delete it")
    return "figures" in earlier and (output / "model").is_dir()


def _tokenised(job: TrainJob) -> tuple[PreTrainedTokenizerFast, TokenRows, TokenRows]:
    from sq.train import pretrain, sft

    if isinstance(job.stage, PretrainStage):
        return pretrain.prepare(job)
    if isinstance(job.stage, SFTStage):
        return sft.prepare(job)
    raise ConfigError(f"stage={job.stage.name} is not a training stage")


def _load(job: TrainJob, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    from sq.models.load import NEW_TINY, load_model
    from sq.models.tiny import make_model

    if job.model.path == NEW_TINY:
        model: PreTrainedModel = make_model(tokenizer, job.seed)
    else:
        model = load_model(job.model, dtype="float32")
    return model.bfloat16() if job.trainer.precision is Precision.BF16 else model


def _train(
    job: TrainJob, tokenizer: PreTrainedTokenizerFast, rows: TokenRows, held_out: TokenRows, output: Path, run: Run
) -> tuple[BaseModule, dict[str, float]]:
    import lightning as L
    import torch

    from sq.data.module import PackLoader, plan_packs, plan_steps
    from sq.models.attention import choose_attention
    from sq.train.base import BaseModule
    from sq.train.watch import Checkpoints, Watch

    _quiet()
    if job.trainer.threads:
        torch.set_num_threads(job.trainer.threads)
    L.seed_everything(job.seed, verbose=False)
    stage, world = job.stage, job.trainer.devices * job.trainer.nodes
    packing = plan_packs(rows, stage.pack_tokens, job.seed)
    if packing.too_long:
        longest = int(rows.lengths.max())
        raise SqError(
            f"{len(packing.too_long)} rows are longer than stage.pack_tokens={stage.pack_tokens} (longest {longest}); raise it"
        )
    steps = plan_steps(len(packing.packs), stage.batch_packs, stage.epochs, stage.max_steps)
    loader = PackLoader(rows, packing, batch_packs=stage.batch_packs, steps=steps, seed=job.seed, world=world)
    model = _load(job, tokenizer)
    attention = choose_attention(model)
    module = BaseModule(model, attention, stage, steps)
    watch = Watch(run, every=job.trainer.log_every, steps=steps)
    trainer = L.Trainer(
        accelerator=job.trainer.accelerator,
        devices=job.trainer.devices,
        num_nodes=job.trainer.nodes,
        strategy=job.trainer.strategy,
        # With bf16 weights there is nothing left for Lightning to convert: the model is, and the optimiser has masters.
        precision="bf16-mixed" if job.trainer.precision is Precision.BF16_MIXED else "32-true",
        max_steps=steps,
        max_epochs=1,
        accumulate_grad_batches=loader.accumulate,
        gradient_clip_val=stage.grad_clip or None,
        callbacks=[watch, Checkpoints(output / "checkpoints", job.trainer)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        val_check_interval=None,
        num_sanity_val_steps=0,
    )
    last = output / "checkpoints" / "last.ckpt"
    if last.exists():
        loader.first_step = int(torch.load(last, map_location="cpu", weights_only=False)["global_step"])
        log.info("continuing from step %d of %d", loader.first_step, steps)
    _announce(job, model, rows, packing, steps, str(attention))
    validation = _validation_loader(held_out, stage.pack_tokens, job.seed)
    trainer.fit(module, loader, ckpt_path=str(last) if last.exists() else None)
    figures = watch.final
    if validation is not None:
        trainer.validate(module, validation, verbose=False)
        figures |= module.validation_figures()
        run.metrics(figures, step=steps)
    return module, figures


def _validation_loader(rows: TokenRows, capacity: int, seed: int) -> Any:
    from sq.data.module import PackLoader, plan_packs

    if not len(rows):
        return None
    packing = plan_packs(rows, capacity, seed)
    return PackLoader(rows, packing, batch_packs=1, steps=len(packing.packs), seed=seed)


def _announce(job: TrainJob, model: PreTrainedModel, rows: TokenRows, packing: Any, steps: int, attention: str) -> None:
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    log.info(
        "%s of %s | %s parameters, %.0f%% trainable | %s rows in %s packs of %s tokens (%.1f%% full) | %s steps, "
        "warm-up %d, peak lr %g | attention: %s",
        job.stage.name, job.model.name, f"{total:,}", 100 * trainable / total, f"{len(rows):,}", f"{len(packing.packs):,}",
        f"{packing.capacity:,}", 100 * packing.efficiency, f"{steps:,}", round(job.stage.warmup * steps), job.stage.lr,
        attention,
    )  # fmt: skip


def _quiet() -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
