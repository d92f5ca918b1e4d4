"""`init`: begin a server's state (configuration, keys, database), or add the link that it lacks.

Nothing is overwritten.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator import accounts, files, keys, settings
from propagator.config import Found, parse_toml
from propagator.core import moment, version
from propagator.core.errors import InputError
from propagator.core.state import DownlinkState
from propagator.issuing import Issuer
from propagator.store import connection, held, issued, members

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from propagator.settings import Settings

_SYSTEM_ID_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz"
"""Without the signs that people mistake for one another: a System ID is typed into the portal."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What `init` did."""

    settings: Settings
    config_path: Path
    wrote_config: bool
    system_id: str
    added_link: bool
    is_lost: bool
    devices: tuple[str, ...] = ()
    """Whom a lead with new keys has to invite again."""


def initialise(path: Path, text: str, now: dt.datetime) -> Begun:
    """Begin the state that a configuration describes. `text` is written to `path` if another one, or none, is there.

    On existing state with the same id the missing link and its keys are added, and nothing else is touched; a lead
    whose keys are gone gets new ones. Raises InputError if there is nothing to add, or if the state is another
    server's; then nothing was written.
    """
    wanted = settings.load(Found(path, parse_toml(text.encode(), path), exists=True))
    asyncio.run(_check_state(wanted))
    files.make_state_dir(wanted.state_dir)
    wrote = not path.exists() or path.read_bytes().decode("utf-8-sig") != text
    if wrote:
        _write_config(path, text)
    return asyncio.run(_begin(wanted, path, wrote=wrote, at=moment.write(now)))


def new_system_id() -> str:
    """Make the identity of a new database: 100 random bits, in groups (DOMAIN: System ID)."""
    signs = "".join(secrets.choice(_SYSTEM_ID_ALPHABET) for _ in range(20))
    return "-".join(signs[start : start + 5] for start in range(0, 20, 5))


def propose_id(host_name: str) -> str:
    """Propose an id: the host's name with four random signs, so that two sites do not meet."""
    plain = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in host_name.lower()).strip("-")
    return f"{plain[:40].strip('-') or 'server'}-{version.new_epoch(random.SystemRandom())[:4]}"


async def _check_state(wanted: Settings) -> None:
    """Raise InputError for state that this configuration adds nothing to, before any file is touched."""
    if not (wanted.state_dir / connection.FILE_NAME).exists():
        return
    async with connection.opened(wanted.state_dir) as store, store.reading() as tx:
        server = await held.find_server(tx)
        is_unfinished = wanted.downlink is not None and not await issued.exists(tx)  # an earlier try was cut short
    if server is not None:
        _check_addition(server, wanted, is_unfinished=is_unfinished)


def _write_config(path: Path, text: str) -> None:
    try:
        files.make_parents(path)
    except OSError as error:
        raise InputError(
            f"{path.parent} cannot be made: {error.strerror}.", hint="run as root, or use --config"
        ) from error
    files.write_public(path, text.encode())


async def _begin(wanted: Settings, path: Path, *, wrote: bool, at: str) -> Begun:
    state_dir = wanted.state_dir
    if not (state_dir / connection.FILE_NAME).exists():
        await connection.create(state_dir)
        files.take_owner(state_dir / connection.FILE_NAME, state_dir)
    async with connection.opened(state_dir) as store:
        async with store.transaction() as tx:
            server = await held.find_server(tx)
            added = server is not None
            if server is None:
                server = described(wanted, new_system_id())
                await held.create_server(tx, server, at)
            else:
                await held.rename_server(tx, described(wanted, server.system_id))
        devices: tuple[str, ...] = ()
        if wanted.downlink is not None and keys.is_without_lead_keys(state_dir):
            devices = await _former(store, state_dir, server.id, at)
        is_lost = wanted.downlink is not None and await begin_downlink(store, state_dir, wanted, at, anew=True)
    for name in (connection.FILE_NAME, f"{connection.FILE_NAME}-wal", f"{connection.FILE_NAME}-shm"):
        if (state_dir / name).exists():
            files.take_owner(state_dir / name, state_dir)
    return Begun(wanted, path, wrote, server.system_id, added, is_lost, devices)


async def _former(store: connection.Store, state_dir: Path, lead: str, at: str) -> tuple[str, ...]:
    """Name the shadows that trust the keys which are gone; where the database is gone too, they get rows again."""
    async with store.transaction() as tx:
        for device, bound in accounts.read_former(state_dir, lead).items():
            await members.remember(tx, device, **bound, at=at)
        return tuple(member.id for member in await members.members(tx))


def check_id(server: held.Server, wanted: Settings) -> None:
    """Raise InputError if the state is that of another server than the configuration's."""
    if server.id != wanted.server.id:
        raise InputError(
            f"{wanted.state_dir} holds the state of {server.id!r}, not of {wanted.server.id!r}.",
            hint="correct server.id, or name another state_dir",
        )


def _check_addition(server: held.Server, wanted: Settings, *, is_unfinished: bool) -> None:
    check_id(server, wanted)
    adds_up = wanted.uplink is not None and not server.wants_uplink
    adds_down = wanted.downlink is not None and not server.wants_downlink
    lacks_keys = wanted.downlink is not None and keys.is_without_lead_keys(wanted.state_dir)
    if not (adds_up or adds_down or lacks_keys or is_unfinished):
        raise InputError(
            f"{wanted.state_dir} holds the state of {server.id!r} already; nothing was changed.",
            hint="propagator status",
        )


def described(wanted: Settings, system_id: str) -> held.Server:
    """Give this server as its configuration describes it."""
    who = wanted.server
    return held.Server(who.id, who.name, who.kind, system_id, wanted.uplink is not None, wanted.downlink is not None)


async def begin_downlink(
    store: connection.Store, state_dir: Path, wanted: Settings, at: str, *, anew: bool = False
) -> bool:
    """Begin a lead: its keys, its CA, its first signed record. True: it is a lost lead, which publishes none.

    Keys that are gone are made anew where nothing was signed with them yet, or where a person wants it (`anew`): no
    device that was invited before trusts them. Else raises StateError, which names those devices.
    """
    broker = "embedded" if wanted.downlink is None else wanted.downlink.broker
    loaded, made = await _lead_keys(store, state_dir, wanted.server.id, anew=anew)
    is_lost = keys.is_born(state_dir) and not made
    async with store.transaction() as tx:
        if await issued.exists(tx):
            if made:  # the record in force under the new identity: its path says whose word it is
                await Issuer(loaded, random.SystemRandom()).carry(tx, at)
            is_lost = await issued.current(tx) is None
            if not is_lost:
                keys.mark_born(state_dir)
            return is_lost
        await issued.create(tx, broker, DownlinkState.LOST if is_lost else DownlinkState.OK)
        if not is_lost:
            issuer = Issuer(loaded, random.SystemRandom())
            await issuer.sign(tx, version.first(version.new_epoch(issuer.rng)), at)
    if not is_lost:
        keys.mark_born(state_dir)
    return is_lost


async def _lead_keys(store: connection.Store, state_dir: Path, lead: str, *, anew: bool) -> tuple[keys.LeadKeys, bool]:
    """Load this lead's keys, or make them; say whether they were made."""
    async with store.reading() as tx:
        devices = [member.id for member in await members.members(tx)]
        was_used = await issued.exists(tx) or keys.is_born(state_dir)
        current = await issued.current(tx)
    none_left = keys.is_without_lead_keys(state_dir)
    if not keys.absent_lead_keys(state_dir) or (was_used and not (anew and none_left)):
        return keys.own_lead_keys(state_dir, lead, devices), False
    return keys.create_lead_keys(state_dir, lead, seq=1 if current is None else current.version.seq), True
