"""Endpoints that take requests and answer none.

A long generation and a dead server look alike, so an endpoint that is quiet is asked for the list of its models.
"""

from __future__ import annotations

import asyncio
import logging

import openai

from sq.core.errors import EndpointError
from sq.core.secrets import redact
from sq.engine import openai_client
from sq.engine.openai_client import Client, Endpoint

log = logging.getLogger(__name__)
QUIET = 30.0
"""Seconds in which nothing but HTTP 5xx came from an endpoint, after which it is asked if it is there; two thirds of
`engine.silence` where that is less."""


async def watch(client: Client) -> None:
    """Ask each endpoint that is quiet for its models, as often as one that is gone is tried.

    Raises:
        EndpointError: where nothing came from any of them for `engine.silence` seconds, and none answers that either.
    """
    clock = asyncio.get_running_loop().time
    for endpoint in client.endpoints:
        endpoint.last_answer, endpoint.silent_since = clock(), None
    while True:
        await asyncio.sleep(openai_client.PROBE)
        await asyncio.gather(*(_check(client, endpoint) for endpoint in client.endpoints))


async def _check(client: Client, endpoint: Endpoint) -> None:
    """Whether an endpoint is quiet, and where it is, whether it lives."""
    clock = asyncio.get_running_loop().time
    if not client.asking:
        endpoint.last_answer, endpoint.silent_since = clock(), None
    if endpoint.away_since is not None:
        return
    if clock() - endpoint.last_answer < min(QUIET, client.config.silence * 2 / 3):
        _note_answering(endpoint)
    elif (reason := await _probe(client, endpoint)) is None:
        _warn_waiting(client, endpoint, clock() - endpoint.last_answer)
        endpoint.last_answer = clock()
        _note_answering(endpoint)
    else:
        _note_silent(client, endpoint, reason)


async def _probe(client: Client, endpoint: Endpoint) -> str | None:
    """Why an endpoint does not list its models; None where it answers so that it lives."""
    try:
        async with asyncio.timeout(openai_client.PROBE):
            await client.ask_models(endpoint)
    except TimeoutError:
        return f"no answer within {openai_client.PROBE:g} s"
    except openai.APIStatusError as error:
        if error.status_code < 500 or error.status_code == 501:  # it does not know the request, and lives
            return None
        return redact(f"HTTP {error.status_code}: {openai_client.message(error)}")[:300]
    except openai.APIConnectionError as error:
        return redact(f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}")
    except (ValueError, RecursionError):
        return None
    return None


def _warn_waiting(client: Client, endpoint: Endpoint, seconds: float) -> None:
    if "waiting" not in client.warned_of:
        client.warned_of.add("waiting")
        if endpoint.problem is not None:
            log.warning(
                "%s has given no answer that can be used for %.0f s (%s). It is there (GET /models); each request is "
                "sent again, up to engine.attempts=%d times",
                redact(endpoint.url), seconds, endpoint.problem[:300], client.config.attempts,
            )  # fmt: skip
            return
        log.warning(
            "%s has answered no request for %.0f s. It is there (GET /models), and is waited for, up to "
            "engine.timeout=%g s a request", redact(endpoint.url), seconds, client.config.timeout,
        )  # fmt: skip


def _note_answering(endpoint: Endpoint) -> None:
    if endpoint.silent_since is not None:
        log.warning("%s answers again", redact(endpoint.url))
        endpoint.silent_since = None


def _note_silent(client: Client, endpoint: Endpoint, reason: str) -> None:
    now, where = asyncio.get_running_loop().time(), redact(endpoint.url)
    quiet_since = [one.last_answer if one.away_since is None else one.away_since for one in client.endpoints
                   if (one.away_since, one.silent_since) != (None, None)]  # fmt: skip
    quiet = now - endpoint.last_answer
    if endpoint.silent_since is None:
        endpoint.silent_since = now
        log.warning(
            "%s has answered no request for %.0f s, nor GET /models (%s). That is asked again in %.0f s; where nothing "
            "comes from any endpoint for engine.silence=%g s the run stops",
            where, quiet, reason, openai_client.PROBE, client.config.silence,
        )  # fmt: skip
    elif len(quiet_since) == len(client.endpoints) and now - max(quiet_since) >= client.config.silence:
        raise EndpointError(
            f"{where} has answered no request for {quiet:.0f} s, nor GET /models: {reason}. Start it again, or set "
            f"{client.config.url_env} to its address, and run the same command again: nothing is lost. A server that "
            "does one request at a time needs an engine.silence above the seconds that one takes"
        )
