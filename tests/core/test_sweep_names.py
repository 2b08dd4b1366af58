"""Names of a sweep's jobs: what is varied, by Hydra's grammar, and never the same for two jobs."""

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from sq.core.entry import MAX_NAME, varied_in_job


def names_of(*sweep):
    """The names of all jobs of a sweep, as Hydra makes them of its overrides."""
    (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(list(sweep)), None)
    return [varied_in_job(sweep, job)[1] for job in jobs]


@pytest.mark.parametrize(
    "fixed",
    [
        '++data.columns={question: Frage, solution: "Lösung"}',
        "benchmark=[a,b]",
        "++data.where='a in (1, 2)'",
        "++name='a,b'",
        "++name=a\\,b",
    ],
)
def test_a_comma_in_brackets_braces_or_quotes_varies_nothing(fixed):
    assert names_of(fixed, "++stage.lr=3e-4,1e-3") == ["stage.lr=0.0003", "stage.lr=0.001"]


@pytest.mark.parametrize(
    ("sweep", "names"),
    [
        (["seed=range(1,3)", "a=choice(x,y)"], ["seed=1,a=x", "seed=1,a=y", "seed=2,a=x", "seed=2,a=y"]),
        (["benchmark=[a,b],[c]"], ["benchmark=-a-b-", "benchmark=-c-"]),
        (["data.input=outputs/a,outputs/b"], ["data.input=outputs-a", "data.input=outputs-b"]),
    ],
)
def test_names_tell_what_is_varied(sweep, names):
    assert names_of(*sweep) == names


@pytest.mark.parametrize(
    "sweep",
    [
        [f"text={'a' * 300}1,{'a' * 300}2"],
        [f"text='{'題' * 99}1','{'題' * 99}2'"],
        ["data.input=a/b,a-b"],
        ["benchmark=[a,b],[[a,b]]", "seed=1,2"],
    ],
)
def test_two_jobs_never_share_a_name(sweep):
    names = names_of(*sweep)
    assert len(set(names)) == len(names) > 1
    assert all(len(name.encode()) <= MAX_NAME for name in names)
    assert names == names_of(*sweep), "the same command continues in the same directories"
