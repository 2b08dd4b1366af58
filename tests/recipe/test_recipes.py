"""Every recipe that is shipped loads, and every command of it composes and builds, at full size and with --tiny."""

import pytest

from sq.recipe.jobs import check
from sq.recipe.load import load_recipe, recipes


@pytest.mark.parametrize("name", recipes())
def test_every_command_of_a_recipe_builds(name):
    recipe = load_recipe(name)
    assert len(check(recipe.stages)) == len(recipe.stages) > 3
    assert recipe.title and len(recipe.title) < 120


@pytest.mark.parametrize("name", [n for n in recipes() if load_recipe(n).config.tiny])
def test_with_tiny_no_model_of_a_hub_is_left(name):
    for stage, job in check(load_recipe(name, tiny=True).stages).items():
        path = job.model.path
        assert path.startswith(("package:", "outputs/")), f"{stage} would load {path}"
