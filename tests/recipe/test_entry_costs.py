"""What `sq plan` and `sq run --dry-run` cost before any work: told by what is imported and composed, not by a clock."""

import json
import subprocess
import sys

import pytest

COUNTED = """
import json, sys
from omegaconf import OmegaConf
from sq.core import compose

compositions, schemas = [], []
chosen, structured = compose.create_defaults_list, OmegaConf.structured

def counted(repository, name, overrides, **more):
    compositions.append([name, *(each.input_line for each in overrides)])
    return chosen(repository, name, overrides, **more)

compose.create_defaults_list = counted
OmegaConf.structured = lambda obj: schemas.append(obj) or structured(obj)
from sq.cli import main
main(sys.argv[1:])
print(json.dumps({"compositions": compositions, "schemas": len(schemas), "modules": sorted(sys.modules)}))
"""
HEAVY = {"torch", "vllm", "transformers", "mlflow", "lightning", "datasets", "ray", "pandas", "sympy", "mpmath"}


def counted(*words, environment):
    command = [sys.executable, "-c", COUNTED, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "most"),
    [
        (["plan", "recipe=scalequest-math"], 23),  # two generators, three more models, four students: each a choice
        (["run", "recipe=demo", "--dry-run"], 12),
        (["run", "recipe=proof", "--dry-run"], 16),  # 100 stages and more
    ],
)
def test_no_choice_is_composed_twice_and_nothing_heavy_is_imported(words, most, environment):
    found = counted(*words, environment=environment)
    compositions = [tuple(each) for each in found["compositions"]]
    assert len(compositions) == len(set(compositions)) <= most
    assert not HEAVY & set(found["modules"])
    assert not [name for name in found["modules"] if name.startswith("sq.eval.equal.")], "a grader is no config"
    assert found["schemas"] < 60, "a type of a setting is made a schema once, and only where a value is converted"


def test_help_composes_and_parses_nothing(environment):
    code = "import sys; sys.argv = ['sq', '--help']; from sq.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print(sorted(sys.modules))"], capture_output=True, text=True, env=environment
    )
    assert "first steps" in done.stdout
    assert not [name for name in ("hydra", "omegaconf", "yaml", "numpy", "pyarrow") if f"'{name}'" in done.stdout]
