"""Every recipe that is shipped loads, and every command of it composes and builds, at full size and with --tiny."""

import pytest

from sq.recipe.jobs import check
from sq.recipe.load import load_recipe, recipes
from sq.recipe.plan import plan


@pytest.mark.parametrize("name", recipes())
def test_every_command_of_a_recipe_builds(name):
    recipe = load_recipe(name)
    assert len(check(recipe.stages)) == len(recipe.stages) > 3
    assert recipe.title and len(recipe.title) < 120


@pytest.mark.parametrize("name", [n for n in recipes() if load_recipe(n).config.tiny])
def test_with_tiny_no_model_of_a_hub_is_left_and_it_can_be_planned(name):
    recipe = load_recipe(name, tiny=True)
    jobs = check(recipe.stages)
    for stage, job in jobs.items():
        path = job.model.path
        assert path.startswith(("package:", "outputs/")), f"{stage} would load {path}"
        assert job.output_dir == f"{recipe.output_dir}/{stage}"
    assert {cost.stage.name for cost in plan(recipe, hardware="h200", jobs=jobs).costs} >= {*jobs}
