"""What people manage this host's filter with: that tool's commands are the remedy.

The rule that drops says it best; without one: firewalld running, ufw enabled, a table of nft that drops, iptables.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from propagator.core import ruleset
from propagator.core.remedy import Tool
from propagator.core.ruleset import Source

if TYPE_CHECKING:
    from propagator.core.ruleset import RuleRef
    from propagator.firewall.state import FirewallState

_TABLES: Final = re.compile(r'"table": ?\{"family": ?"(\w+)", "name": "([^"]+)"')
_DROPS: Final = re.compile(r'\{"(?:drop|reject)":|"policy": "drop"')
_OF_IPTABLES: Final = {"filter", "nat", "mangle", "raw", "security"}


def in_charge(state: FirewallState, rule: RuleRef | None = None) -> Tool | None:
    """Name the tool to use, for the rule that drops if it is known; None if nothing filters here."""
    if rule is not None:
        return _of_rule(state, rule)
    texts = state.listing.texts
    listed, saved = texts.get(Source.NFT_JSON, ""), _saved(state)
    tables = set(_TABLES.findall(listed))
    if ("inet", "firewalld") in tables or "-j INPUT_ZONES" in saved:
        return Tool.FIREWALLD
    if state.ufw_enabled and ("ufw-user-input" in listed or "ufw-user-input" in saved):
        return Tool.UFW
    own = {table for table in tables if table[0] not in {"ip", "ip6"} or table[1] not in _OF_IPTABLES}
    if own and _DROPS.search(listed):
        return Tool.NFT
    if any(texts.get(source) for source in (Source.IPTABLES_LEGACY, Source.IP6TABLES_LEGACY)):
        return Tool.IPTABLES_LEGACY
    return Tool.IPTABLES if tables - own else None


def _saved(state: FirewallState) -> str:
    texts = state.listing.texts
    return "".join(texts.get(source, "") for source in Source if source.endswith("-save"))


def _of_rule(state: FirewallState, rule: RuleRef) -> Tool:
    if rule.table == "firewalld":
        return Tool.FIREWALLD
    saved = _saved(state)
    if rule.tool is not ruleset.Tool.NFT:
        if "-j INPUT_ZONES" in saved:
            return Tool.FIREWALLD
        if state.ufw_enabled and rule.table == "filter" and "ufw-user-input" in saved:
            return Tool.UFW
    return Tool(rule.tool.value)
