"""The catalogue: every case of FIREWALL.md §2, in its order."""

from __future__ import annotations

from tests.firewall import cases_filter, cases_names, cases_session
from tests.firewall.case import CASES, Case

__all__ = ["CASES", "Case", "cases_filter", "cases_names", "cases_session"]
