"""The whole servers of the acceptance tests, for what systemd is told of them."""

from __future__ import annotations

from tests.acceptance.conftest import command, settled, site
from tests.machine import protected_regular

__all__ = ["command", "protected_regular", "settled", "site"]
