"""Registration by a person: put content in force; the agent gives it a version and publishes it (DESIGN §6, §7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from propagator import entering
from propagator.core import registration
from propagator.core.errors import InputError, RefusedError
from propagator.core.state import Event, Origin
from propagator.store import changes, held, history, uplinks

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from propagator.core.registration import Registration
    from propagator.core.statement import Proven, Refusal
    from propagator.entering import Entered, Offer
    from propagator.store import Store


@dataclass(frozen=True, slots=True)
class Undone:
    """What `undo` did: what was in force, and what is now (None: the registration is withdrawn)."""

    before: Registration | None
    after: Registration | None
    leads: bool


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration did: what was in force before, and whether anything changed."""

    before: Registration | None
    after: Registration
    changed: bool
    leads: bool
    may_be_attached: bool


def read_file(path: Path) -> Registration:
    """Read a registration file, TOML or JSON by its ending or first sign. Raises InputError with every problem."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.", hint="config/registration.toml is an example") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text.", hint="save the file as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint=f"ls -l {path}") from error
    is_json = path.suffix.lower() == ".json" or (path.suffix.lower() != ".toml" and text.lstrip().startswith("{"))
    return registration.read_file(text, kind="json" if is_json else "toml")


async def register(store: Store, content: Registration, *, at: str) -> Registered:
    """Put a registration in force. Raises RefusedError on an attached shadow, which names its lead (R16)."""
    async with store.transaction() as tx:
        await entering.hold_own(tx, what="register")
        server = await held.server(tx)
        local = await held.local(tx)
        unchanged = local.registration == content and local.lead is None
        if not unchanged:
            await changes.write_own(
                tx, content, event=Event.REGISTERED, origin=Origin.OWN, pending=server.wants_downlink, at=at
            )
    may_be_attached = server.wants_uplink or entering.is_stand_alone_device(server)
    return Registered(local.registration, content, not unchanged, server.wants_downlink, may_be_attached)


@dataclass(frozen=True, slots=True)
class Looked:
    """How an offer is judged, what is in force, and whether this is a lead that lost its record."""

    judged: Proven | Refusal
    before: Registration | None
    is_lost: bool


async def look(store: Store, offer: Offer, now: dt.datetime) -> Looked:
    """Judge what a Registration Portal signed, and change nothing. Raises as `entering.enter` does."""
    async with store.reading() as tx:
        judged = await entering.look(tx, offer, now)
        return Looked(judged, (await held.local(tx)).registration, await entering.is_lost(tx))


async def accept(store: Store, offer: Offer, now: dt.datetime) -> Entered | Refusal:
    """Put in force what a Registration Portal signed, by code or online. Raises as `entering.enter` does."""
    async with store.transaction() as tx:
        return await entering.enter(tx, offer, now)


async def undo(store: Store, *, at: str) -> Undone:
    """Put the previous own registration in force again, as a new change; of the first one: none, which withdraws it.

    Raises RefusedError on an attached shadow (R16), and where there is nothing to undo.
    """
    async with store.transaction() as tx:
        link = await uplinks.uplink(tx)
        if link is not None:
            raise RefusedError(
                f"This server is a shadow of {link.lead_name or link.lead!r}: what its lead says applies to it.",
                hint=f"undo it at {link.lead}, or: propagator detach --restore",
            )
        row = await history.undoable(tx)
        if row is None:
            raise RefusedError("There is no change of this server's own to undo.", hint="propagator history")
        number, earlier = row
        server = await held.server(tx)
        local = await held.local(tx)
        await changes.write_own(
            tx,
            earlier,
            event=Event.UNDONE,
            origin=Origin.OWN,
            pending=server.wants_downlink,
            at=at,
            detail=f"change {number}",
        )
    return Undone(local.registration, earlier, server.wants_downlink)
