"""A sandbox that is attacked. After each attack: it was held, nothing is left of it, and the worker serves on."""

import os

import isolation_here
import pytest
from attacks import LIMITS, SECRET, call, children, template_of

from sq.core.errors import EngineError
from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def box(request):
    os.environ["PLANTED_SECRET"] = SECRET
    try:
        with Sandbox(SandboxConfig(isolation=request.param, **LIMITS)) as sandbox:
            yield sandbox
    except EngineError as error:
        isolation_here.refused(request.param, error)
    finally:
        del os.environ["PLANTED_SECRET"]


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def impatient_box(request):
    """For what uses no processor time: it waits two seconds."""
    try:
        with Sandbox(SandboxConfig(isolation=request.param, **LIMITS | {"wall_seconds": 2.0})) as sandbox:
            yield sandbox
    except EngineError as error:
        isolation_here.refused(request.param, error)


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """After every attack: no process of it, nothing in its temporary directory, and the next program runs."""
    yield
    names = {"box", "impatient_box"} & set(request.fixturenames)
    if not names:
        return
    box = request.getfixturevalue(names.pop())
    assert call(box, "import os\ndef f(): return os.listdir(os.environ['TMPDIR'])") == []
    template = template_of(box)
    assert children(template) == [], "a process is left"
    assert template == box.template, "the worker had to be started again"
