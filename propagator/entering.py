"""Entering what a Registration Portal signed: its registration becomes this server's own (DESIGN §7).

A function here takes the transaction that it works in: a lead that lost its record issues in the very same one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from propagator.core import moment, statement
from propagator.core.errors import RefusedError
from propagator.core.state import Event, Origin
from propagator.core.statement import Refusal
from propagator.store import changes, held, issued, portals, uplinks

if TYPE_CHECKING:
    import datetime as dt

    from propagator.core.registration import Registration
    from propagator.core.statement import Proven, Statement
    from propagator.store import Tx


@dataclass(frozen=True, slots=True)
class Access:
    """Where a portal is asked for later editions, and the right to ask there."""

    url: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Offer:
    """The signed bytes of a statement, and how they came: `origin` is `code` or `portal`.

    `trusted` is the thumbprint of a portal's key that a person says to trust from now on. `associates`: the person
    said that an existing registration moves here, which is what a lead that lost its record needs. `access` came with
    the statement, for the editions after it; a code brings none.
    """

    raw: bytes
    origin: Origin
    trusted: str | None = None
    associates: bool = False
    access: Access | None = None


@dataclass(frozen=True, slots=True)
class Entered:
    """What entering a statement did: what was in force before, what is now (None: withdrawn), and whether it differs.

    `event` is what history calls it. The rest is who this server is: whether it leads, and whether it is meant, or is
    of the kind, to be attached (R4).
    """

    statement: Statement
    key: str
    portal: str
    event: Event
    before: Registration | None
    changed: bool
    leads: bool
    may_be_attached: bool

    @property
    def after(self) -> Registration | None:
        """The registration that is in force now."""
        return self.statement.registration


async def enter(tx: Tx, offer: Offer, now: dt.datetime, *, why: str = "") -> Entered | Refusal:
    """Put what a portal signed in force, note its serial, and what is held of the portal; a Refusal changed nothing.

    Raises RefusedError on an attached shadow, which names its lead (R16), and on a lead that lost its record unless
    the offer `associates`. `why` is added to what history says of it.
    """
    proven = await look(tx, offer, now)
    return proven if isinstance(proven, Refusal) else await _put(tx, proven, offer, moment.write(now), why)


async def look(tx: Tx, offer: Offer, now: dt.datetime) -> Proven | Refusal:
    """Judge an offer, and change nothing. Raises as `enter` does."""
    await hold_open(tx, associates=offer.associates)
    return statement.read(offer.raw, await portals.standing(tx, now, trusted=offer.trusted))


async def hold_open(tx: Tx, *, associates: bool) -> None:
    """Raise RefusedError where nothing that a portal signed may be entered: as `hold_own`, and at a lost lead.

    A lead that lost its record has to say that it `associates`.
    """
    await hold_own(tx, what="associate" if associates else "register")
    if not associates and await is_lost(tx):
        raise RefusedError(
            "This lead has lost its record: its shadows hold one that stands above whatever it would publish now.",
            hint="propagator associate takes the existing registration over, with the same code or portal",
        )


async def hold_own(tx: Tx, *, what: str) -> None:
    """Raise RefusedError on an attached shadow: it names its lead, whose registration applies here (R16)."""
    link = await uplinks.uplink(tx)
    if link is not None:
        raise RefusedError(
            f"This server is a shadow of {link.lead_name or link.lead!r}: its lead's registration applies to it.",
            hint=f"{what} at {link.lead}, or detach this server first: propagator detach",
        )


async def is_lost(tx: Tx) -> bool:
    """Say whether this is a lead that lost its record: it has keys and a downlink, and no version to announce."""
    return await issued.exists(tx) and await issued.current(tx) is None


async def _put(tx: Tx, proven: Proven, offer: Offer, at: str, why: str) -> Entered:
    said = proven.statement
    server, local, known = await held.server(tx), await held.local(tx), await portals.portal(tx)
    is_new = known is None or (known.key, known.system) != (proven.key, said.system)
    event = _event(said, associates=offer.associates or (is_new and said.replaces is not None))
    changed = local.registration != said.registration or local.lead is not None or local.origin is Origin.OWN
    if changed or offer.associates:
        await changes.write_own(
            tx,
            said.registration,
            event=event,
            origin=offer.origin,
            pending=server.wants_downlink,
            at=at,
            detail=f"{_detail(proven, offer.origin)}{why}",
        )
    await portals.trust(tx, proven.key, name=proven.portal)
    await portals.take(tx, proven, at=at)
    if offer.access is not None:
        await portals.connect(tx, offer.access.url, offer.access.token)
    return Entered(
        *(said, proven.key, proven.portal, event, local.registration, changed),
        leads=server.wants_downlink,
        may_be_attached=server.wants_uplink or is_stand_alone_device(server),
    )


def is_stand_alone_device(server: held.Server) -> bool:
    """Say whether this server is of the kind that is usually attached, and leads nobody itself (R4)."""
    return server.kind == "server-device" and not server.wants_downlink


def _event(said: Statement, *, associates: bool) -> Event:
    if said.registration is None:
        return Event.WITHDRAWN
    return Event.ASSOCIATED if associates else Event.REGISTERED


def _detail(proven: Proven, origin: Origin) -> str:
    """Say in the history why: which words of which portal; and whose registration it was before."""
    said = proven.statement
    way = f"Registration code {said.serial}, " if origin is Origin.CODE else ""
    before = "" if said.replaces is None else f"; System ID {said.replaces} before"
    return f"{way}{proven.portal} {said.system} edition {said.edition}{before}"
