"""One verdict: a code of the catalogue, how sure it is and why, and the facts that fill in its sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Final

from propagator.core.diagnosis.catalogue import CATALOGUE, FINE, Code, Confidence, Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNKNOWN: Final = {
    "address": "the lead's address",
    "gateway": "the gateway",
    "host": "the lead's name",
    "hop": "",
    "issuer": "another issuer",
    "lead": "the lead",
    "limit": "all of them",
    "network": "this server's network",
    "other": "something else",
    "port": "of the lead",
    "portal": "the portal",
    "proxy": "the proxy",
    "rule": "",
    "seconds": "some",
    "source": "a device",
}
"""What stands in a sentence where a fact is not known. These are all the facts there are."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, if anything. `reason` says why it is this sure; `address` which address it is about."""

    code: Code
    confidence: Confidence
    reason: str
    address: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def entry(self) -> Entry:
        """Its line of the catalogue."""
        return CATALOGUE[self.code]

    @property
    def is_fine(self) -> bool:
        """Whether the registration gets through."""
        return self.code in FINE

    @property
    def cause(self) -> str:
        """What is wrong, in one or two sentences."""
        return self._filled(self.entry.cause)

    @property
    def advice(self) -> str:
        """The one thing to do."""
        return self._filled(self.entry.advice)

    @property
    def settled_by(self) -> str | None:
        """What would make it certain; None if it is."""
        if self.confidence is Confidence.CERTAIN:
            return None
        return self._filled(self.entry.settled_by) or None

    def _filled(self, text: str) -> str:
        address = {} if self.address is None else {"address": self.address}
        return text.format_map({**_UNKNOWN, **address, **self.facts})

    def knowing(self, **facts: str) -> Verdict:
        """The same verdict with more facts; those that it has stay."""
        return Verdict(self.code, self.confidence, self.reason, self.address, {**facts, **self.facts})


def words_of(text: str) -> frozenset[str]:
    """Name the facts that a sentence of the catalogue wants."""
    return frozenset(name for _, name, _, _ in Formatter().parse(text) if name)


def known_facts() -> frozenset[str]:
    """Name every fact that a sentence may want."""
    return frozenset(_UNKNOWN)
