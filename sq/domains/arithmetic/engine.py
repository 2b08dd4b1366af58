"""The oracle as an engine, under its old address."""

from sq.domains.oracle import OracleConfig, OracleEngine

__all__ = ["OracleConfig", "OracleEngine"]
