"""Faults are made on whole servers: the fixtures are those of the acceptance tests."""

from tests.acceptance.conftest import command, pytest_runtest_makereport, settled, site

__all__ = ["command", "pytest_runtest_makereport", "settled", "site"]
