"""The whole chain on real vLLM and the tiny model, each stage ended by `kill -9` again and again, beside a calm run.

    python benchmarks/kills.py [--count 200] [--scorer] [--where DIRECTORY]
    python benchmarks/kills.py --workers 3 [--kills 100] [--count 200]    # of workers and their coordinator
    python benchmarks/kills.py --raylet [--kills 20] [--count 1500]       # of nodes of a Ray cluster

Every stage runs twice: once in peace, once in child processes that are killed at random moments until one comes to its
end. Rows and rejects of both must be the same but for the ids of runs, and every funnel must reconcile; else the exit
code is 1. `--scorer` trains a difficulty scorer on the labels of the chain, for the filter to use. The children are
forks of a process that has imported vLLM but never started it, so what is killed is work and not imports.

With `--workers` the stages that can are done by so many workers, with the arithmetic oracle in the model's place, and
killed is now a worker, now the coordinator, over and over, until there were so many kills. With `--raylet` the stages
are commands of their own with two workers on two nodes of a Ray cluster on this machine, and killed is the process of a
node (its raylet), for which another node comes.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from tqdm import tqdm

import sq.synth.run
from sq.core.config import build, conf_dir
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.engine.vllm import VLLMConfig
from sq.synth.config import SynthJob
from sq.synth.questions import QuestionsStage

STARTED = ("vllm.entrypoints.llm", "vllm.v1.worker.cpu_worker", "vllm.model_executor.models.llama",
           "transformers.models.llama.modeling_llama", "sq.synth.stage")  # fmt: skip
"""What a start of vLLM imports on a CPU: 12 of its 14 seconds of processor time. `import vllm` alone imports little."""
GROUPS = ("stage", "model", "domain", "engine", "tracking", "filters")


def chain(count: int, scorer: Path | None) -> dict[str, list[str]]:
    """The stages, in order; `@name` stands for the directory of an earlier one."""
    fewer = f"limit={max(20, count // 3)}"
    clean = ["format", "language", "duplicates", "solvability", *(["difficulty"] if scorer else [])]
    difficulty = [f"filters.difficulty.model={{name: scorer, path: {scorer}}}", "filters.difficulty.threshold=0.1"]
    return {
        "questions": ["stage=questions", f"stage.count={count}", "stage.max_tokens=150"],
        "pairs": ["stage=rewrite", "input=@questions", "stage.source=success_rate", "stage.k=4", "stage.window=8",
                  "stage.max_tokens=150", fewer],
        "rewrites": ["stage=rewrite", "input=@questions", "stage.max_tokens=60", fewer],
        "labels": ["stage=fail_rate", "stage.n=8", "stage.step=4", "stage.width=0.6", "stage.max_tokens=150", fewer],
        "judged": ["stage=filter", "input=@questions", "filters=[format,language,duplicates,solvability]",
                   "filters.solvability.keep_unparsable=true", "filters.solvability.max_tokens=60",
                   "stage.scores=@scores"],
        "clean": ["stage=filter", "input=@judged", f"filters=[{','.join(clean)}]", "engine=oracle",
                  "engine.error_rate=0.1", "stage.scores=@oracle-scores", *(difficulty if scorer else [])],
        "answers": ["stage=answers", "input=@clean", "stage.max_tokens=200"],
        "majority": ["stage=select", "input=@answers", "stage.method=majority"],
        "best": ["stage=select", "input=@answers", "stage.method=reward", "engine=oracle", "engine.error_rate=0.1"],
    }  # fmt: skip


@dataclass(frozen=True)
class StageResult:
    """What came of one stage."""

    kills: int
    rows: int
    rejects: int
    same: bool
    reconciles: bool
    calm: float
    killed: float


def workers_chain(count: int) -> dict[str, list[str]]:
    """The stages that workers do, on the domain's own problems."""
    oracle = ["engine=oracle", "engine.error_rate=0.2", "part_size=8"]
    problems = [*oracle, "input=domain", f"limit={count}"]
    return {
        "labels": [*problems, "stage=fail_rate", "stage.n=8", "stage.step=4", "stage.width=0.6"],
        "judged": [*problems, "stage=filter", "filters=[format,language,solvability]",
                   "stage.scores=@scores"],
        "answers": [*problems, "stage=answers"],
        "majority": [*oracle, "stage=select", "input=@answers", "stage.method=majority"],
    }  # fmt: skip


def main() -> int:
    """Run the chain and print the table; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="questions")
    parser.add_argument("--scorer", action="store_true", help="train a difficulty scorer and filter by it")
    parser.add_argument("--growth", type=float, default=1.12, help="by how much longer each try runs than the last")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--where", type=Path, help="keep everything here")
    parser.add_argument("--stages", help="only these; the others are in --where from an earlier run")
    parser.add_argument(
        "--workers", type=int, default=1, help="so many, and one of them or their coordinator is killed"
    )
    parser.add_argument("--raylet", action="store_true", help="nodes of a Ray cluster are killed")
    parser.add_argument("--kills", type=int, default=100, help="with --workers and --raylet: in all, at least")
    arguments = parser.parse_args()
    alone = arguments.workers == 1 and not arguments.raylet
    if alone:
        VLLMConfig().prepare()
        for module in STARTED:  # before there are children
            importlib.import_module(module)
        gc.freeze()
    print(
        f"{'stage':<10} {'kills':>5} {'rows':>6} {'rejects':>7}  same  in = out + rejects   calm CPU s  killed wall s",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as made:
        where = arguments.where or Path(made)
        stages = _stages if alone else _stages_of_workers
        results = list(stages(where, arguments, random.Random(arguments.seed)))
    kills = sum(result.kills for result in results)
    good = all(result.same and result.reconciles for result in results)
    comparison = "every result is that of a calm run" if good else "RESULTS DIFFER"
    print(f"{kills} kills over {len(results)} stages: {comparison}")
    return 0 if good else 1


def _stages(where: Path, arguments: argparse.Namespace, rng: random.Random) -> Iterator[StageResult]:
    scorer = where / "scorer" / "model" if arguments.scorer else None
    for kind in ("calm", "killed"):
        (where / kind).mkdir(parents=True, exist_ok=True)
    for name, settings in chain(arguments.count, scorer).items():
        if name == "clean" and scorer is not None:
            _train(where / "calm" / "labels", where / "scorer")
        calm, killed = (_job(settings, where / kind, name) for kind in ("calm", "killed"))
        if arguments.stages and name not in arguments.stages.split(","):
            continue
        taken = _wait(_child(calm))
        begun = time.monotonic()
        kills = _until_done(killed, rng, taken, arguments.growth)
        result = _compared(where / "calm" / name, name, killed, kills, taken, time.monotonic() - begun)
        _print(name, result)
        yield result


def _print(name: str, result: StageResult) -> None:
    print(f"{name:<10} {result.kills:>5} {result.rows:>6} {result.rejects:>7}  {'yes' if result.same else 'NO':<4} "
          f" {'yes' if result.reconciles else 'NO':<18} {result.calm:12.1f} {result.killed:14.1f}",
          flush=True)  # fmt: skip


def _stages_of_workers(where: Path, arguments: argparse.Namespace, rng: random.Random) -> Iterator[StageResult]:
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "synth"))
    if arguments.raylet:
        nodes = importlib.import_module("ray_nodes")
        cluster = nodes.start_cluster(2)
        own = ["workers=2", f"cluster.address='{cluster.address}'"]
    else:
        forks = importlib.import_module("forked_workers")
        sq.synth.run.launcher_of = lambda job: forks.ForkedLauncher()
        own = [f"workers={arguments.workers}"]
    kills, turn = 0, 0
    while kills < arguments.kills:
        for name, settings in workers_chain(arguments.count).items():
            for kind in ("calm", f"killed-{turn}"):
                (where / kind).mkdir(parents=True, exist_ok=True)
            calm = _job(settings, where / "calm", name)
            killed = _job([*settings, *own], where / f"killed-{turn}", name)
            taken, begun = _wait(_child(calm)), time.monotonic()
            if arguments.raylet:
                command = _settings([*settings, *own], where / f"killed-{turn}", name)
                of_stage = _kill_raylets(command, f"{killed.output_dir}.log", rng, nodes, cluster)
            else:
                of_stage = _kill_workers(killed, rng, forks.children_of)
            result = _compared(where / "calm" / name, name, killed, of_stage, taken, time.monotonic() - begun)
            _print(name, result)
            yield result
            kills += result.kills
        turn += 1


def _kill_workers(job: SynthJob, rng: random.Random, children_of: Callable[[int], list[int]]) -> int:
    """Kill a worker, now and then the coordinator, until the job has come to its end; the number of kills."""
    kills, pause = 0, 0.1
    while True:
        coordinator = _child(job)
        while True:
            time.sleep(rng.uniform(0.2, 1.0) * pause)
            ended, status = os.waitpid(coordinator, os.WNOHANG)
            if ended:
                break
            victims = children_of(coordinator)
            victim = rng.choice(victims) if victims and rng.random() < 0.8 else coordinator
            os.kill(victim, signal.SIGKILL)
            kills, pause = kills + 1, pause * 1.05
            if victim == coordinator:
                os.waitpid(coordinator, 0)
                break
        if ended and status == 0:
            return kills
        if ended and "every worker has ended" not in Path(f"{job.output_dir}.log").read_text():
            raise SystemExit("a stage failed after a kill: see its .log, kept with --where")


def _kill_raylets(command: list[str], log: str, rng: random.Random, nodes: Any, cluster: Any) -> int:
    """Kill a node's raylet, and add another node, until the command has come to its end; the number of kills."""
    kills, pause = 0, 12.0
    while True:
        with open(log, "ab") as file:
            process = subprocess.Popen([sys.executable, "synthesize.py", *command], stdout=file, stderr=file)
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.2, 1.8) * pause)
                break
            nodes.kill_raylet(cluster, rng.randrange(2))
            kills, pause = kills + 1, pause * 1.1
            nodes.add_node(cluster)
        if process.returncode == 0:
            return kills
        if "same command" not in Path(log).read_text():
            raise SystemExit("a stage failed after a kill: see its .log, kept with --where")


def _settings(settings: list[str], root: Path, name: str) -> list[str]:
    given = [s.replace("@", f"{root}/") for s in settings]
    given += [] if any(s.startswith("engine=") for s in given) else ["engine=vllm"]
    return [*given, "model=tiny", "tracking=none", f"output_dir={root / name}"]


def _job(settings: list[str], root: Path, name: str) -> SynthJob:
    given = _settings(settings, root, name)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("synthesize", overrides=[s if s.split("=")[0] in GROUPS else f"++{s}" for s in given])
        return build(config, SynthJob)


def _child(job: SynthJob) -> int:
    """Run the job in a fork; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(f"{job.output_dir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        tqdm.set_lock(threading.RLock())  # its own is shared with forks, and a killed one may die holding it
        job.run()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _wait(child: int) -> float:
    """Wait for a job's end; the processor seconds it took."""
    _, status, used = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("a stage failed: see its .log, kept with --where")
    return used.ru_utime + used.ru_stime


def _used(child: int) -> float:
    """Processor seconds of a running child: they go on as its work does, however busy the machine is."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _until_done(job: SynthJob, rng: random.Random, calm: float, growth: float) -> int:
    """Kill the job's processes after ever more of their time, until one comes to its end; the number of kills."""
    kills, patience = 0, 0.4 * calm
    while True:
        child = _child(job)
        enough = rng.uniform(0.5, 1.5) * patience
        while _used(child) < enough:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                if os.waitstatus_to_exitcode(status):
                    raise SystemExit("a stage failed after a kill: see its .log, kept with --where")
                return kills
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills, patience = kills + 1, patience * growth


def _compared(one: Path, name: str, job: SynthJob, kills: int, calm: float, killed: float) -> StageResult:
    other = Path(job.output_dir)
    manifest = read_manifest(other)
    rows, rejects = sum(1 for _ in read_rows(other)), sum(1 for _ in read_rejects(other))
    counted = manifest.rows == rows and manifest.rejects == rejects == sum(manifest.reasons.values())
    came = _came(job, other.parent)
    went = rows * {"pairs": 2, "answers": 1 / 5}.get(name, 1) + rejects  # a pair has 2 questions, a question 5 answers
    return StageResult(
        kills=kills, rows=rows, rejects=rejects, same=content(one) == content(other),
        reconciles=manifest.finished and counted and came == went, calm=calm, killed=killed,
    )  # fmt: skip


def _came(job: SynthJob, root: Path) -> int:
    """The rows that went into a stage."""
    if isinstance(job.stage, QuestionsStage):
        return job.stage.count
    if job.input in (None, "domain"):  # the domain's own problems
        return job.limit or 0
    rows = read_manifest(root / Path(job.input).name).rows
    return min(rows, job.limit) if job.limit else rows


def content(directory: Path) -> str:
    """A digest of all rows and rejects of a stage, in order, without the ids of the runs that made them."""
    digest = hashlib.sha256()
    for row in read_rows(directory):
        digest.update(json.dumps(_plain(row), sort_keys=True).encode())
    for reject in read_rejects(directory):
        digest.update(json.dumps({**reject, "row": _plain(json.loads(reject["row"]))}, sort_keys=True).encode())
    return digest.hexdigest()


def _plain(row: Any) -> Any:
    return {k: _plain(v) if isinstance(v, dict) else v for k, v in row.items() if k != "run"}


def _train(labels: Path, output: Path) -> None:
    command = [
        sys.executable,
        "train.py",
        "stage=difficulty",
        "model=tiny-base",
        f"data.input={labels}",
        "tracking=none",
    ]
    subprocess.run([*command, f"output_dir={output}"], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
