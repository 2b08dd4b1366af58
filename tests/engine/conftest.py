"""An endpoint that misbehaves as it is told, and engines that ask it."""

import pytest
from openai_endpoint import KEY, MODEL, Endpoint

from sq.engine.openai import OpenAIConfig

FAST = {"backoff": 0.01, "backoff_max": 0.05}


@pytest.fixture
def endpoint(monkeypatch):
    endpoint = Endpoint()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{endpoint.port}/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    yield endpoint
    endpoint.close()


@pytest.fixture
def start(endpoint):
    engines = []

    def start(**settings):
        engines.append(OpenAIConfig(**{**FAST, **settings}).create(MODEL))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()
