"""Engines: a stream of requests in, a stream of results out."""
