"""The link that a shadow follows: `uplink.toml`, its credentials and what the database knows, brought together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator import keys, settings
from propagator.bus import Endpoint, Tls
from propagator.core import signing
from propagator.core.errors import StateError
from propagator.core.state import State
from propagator.core.wire import Leaf, Topic
from propagator.store import held, uplinks

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.core.record import Document
    from propagator.core.signing import PrivateKey
    from propagator.core.wire import Typ
    from propagator.settings import Uplink
    from propagator.store import Store, Tx

FIRST_PERIOD_S: Final = 60.0
"""What a lead's heartbeat period is taken for until it says so itself."""


@dataclass(frozen=True, slots=True)
class Following:
    """Whom a shadow follows, and as whom it speaks. `own_identity`: its identity key's thumbprint, if it leads too."""

    lead: str
    identity: str
    server: held.Server
    key: PrivateKey
    membership: str
    own_identity: str | None = None

    def topic(self, leaf: Leaf) -> str:
        """Give one of this shadow's topics, or of its lead's."""
        own = leaf not in {Leaf.REGISTRATION, Leaf.HEARTBEAT}
        return str(Topic(self.lead, leaf, self.server.id if own else None))

    def seal(self, typ: Typ, document: Document) -> bytes:
        """Sign a document as this shadow."""
        return signing.seal(typ, document, self.key, lead=self.lead, sender=self.server.id)


@dataclass(frozen=True, slots=True)
class Link:
    """A usable link: what `uplink.toml` says, whom that means, and where and as whom to connect."""

    wanted: Uplink
    following: Following
    endpoint: Endpoint


async def load_link(store: Store, state_dir: Path, server: held.Server, at: str) -> Link | None:
    """Load the link in force, None if there is none; what a crash or a lost database left half done is completed.

    Raises InputError or StateError where its files cannot be used.
    """
    wanted = settings.load_uplink(state_dir / settings.UPLINK_FILE)
    async with store.transaction() as tx:
        wanted = await _settle(tx, wanted, state_dir, at)
    if wanted is None:
        return None
    credentials = keys.load_credentials(wanted.credential_file)
    following = Following(
        wanted.lead,
        wanted.lead_key,
        server,
        credentials.key,
        credentials.membership,
        keys.load_lead_keys(state_dir).identity if keys.has_lead_keys(state_dir) else None,
    )
    endpoint = Endpoint(
        addresses=tuple(map(str, wanted.addresses)),
        username=credentials.username,
        password=credentials.password,
        identifier=server.id,
        tls=tls(pem(wanted.ca_file)),
    )
    return Link(wanted, following, endpoint)


def tls(ca_pem: str | None) -> Tls:
    """Hold a pinned private CA to the chain and not to the name, a public CA to both (DESIGN §5)."""
    return Tls(ca_pem=ca_pem, verify_name=ca_pem is None)


async def _settle(tx: Tx, wanted: Uplink | None, state_dir: Path, at: str) -> Uplink | None:
    """Make file and database say the same. The file leads, but for a detaching that a crash kept from removing it."""
    known = await uplinks.uplink(tx)
    if wanted is None:
        if known is not None:
            await uplinks.detach(tx, restore=False, at=at)
        return None
    if known is None and await uplinks.was_detached(tx):
        (state_dir / settings.UPLINK_FILE).unlink(missing_ok=True)
        return None
    if known is None or (known.lead, known.identity) != (wanted.lead, wanted.lead_key):
        link = uplinks.Uplink(wanted.lead, wanted.lead, wanted.lead_key, State.UNKNOWN, at, FIRST_PERIOD_S)
        await uplinks.attach(tx, link, seq=1, lowest=None, at=at)
    return wanted


def pem(path: Path | None) -> str | None:
    """Read the lead's CA; None where this machine's own trust store counts. Raises StateError."""
    if path is None:
        return None
    try:
        return path.read_text()
    except OSError as error:
        raise StateError(
            f"The lead's CA {path} cannot be read: {error.strerror}.", hint="attach this server again with a new token"
        ) from error
