"""One site in one process: the lead es-1 and its shadows, each with a store and keys of its own, on one broker.

Everything is the real code but the broker. `leading` and `following` run an agent's link as long as their block lasts;
`Died` ends one as `kill -9` would. What went over the wire is read back with `said`.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Final, TypeVar

from propagator import initialise, keys, settings
from propagator.config import Found
from propagator.core import moment, registration, session, version
from propagator.core.errors import Unreadable
from propagator.core.record import Document, Hop, Record, life_entries, read
from propagator.core.signing import open_envelope
from propagator.core.state import State
from propagator.core.wire import Heartbeat, Leaf, Membership, Presence, Report, Request, Topic, Typ
from propagator.following import Following, load_link
from propagator.issuing import Issuer
from propagator.lead import Lead
from propagator.register import register
from propagator.shadow import Shadow
from propagator.store import Store, connection, held, issued, members, uplinks
from propagator.welcome import Welcome
from tests.store.contents import AT, bound, rows
from tests.unit.builders import key, v
from tests.virtual_time import now, running_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from propagator.core.registration import Registration
    from propagator.core.session import Session
    from propagator.core.version import Version
    from propagator.keys import LeadKeys
    from propagator.store import Tx
    from tests.memory_bus import MemoryBroker, Said

LEAD: Final = "es-1"
PERIOD_S: Final = 60.0

RECORD: Final = str(Topic(LEAD, Leaf.REGISTRATION))
HEARTBEAT: Final = str(Topic(LEAD, Leaf.HEARTBEAT))

_Word = TypeVar("_Word", bound=Document)


class WatchedStore(Store):
    """A store whose work in its thread keeps virtual time from jumping, and whose commits are counted."""

    commits = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        with running_loop().standing_still():
            async with super().transaction() as tx:
                yield tx
            self.commits += 1

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Tx]:
        with running_loop().standing_still():
            async with super().reading() as tx:
                yield tx

    async def pragma(self, text: str) -> object:
        """Set or ask one of the connection's pragmas."""
        with running_loop().standing_still():
            async with self._connection.execute(f"PRAGMA {text}") as cursor:
                row = await cursor.fetchone()
        return None if row is None else row[0]

    async def fill_disk(self) -> None:
        """Let no page be added from now on: what SQLite says of a full disk (F33)."""
        await self.pragma(f"max_page_count = {await self.pragma('page_count')}")

    async def free_disk(self) -> None:
        """Let it grow again."""
        await self.pragma("max_page_count = 1000000")

    async def forbid_writing(self) -> None:
        """Refuse every write from now on: what SQLite says of a read-only file system (F34)."""
        await self.pragma("query_only = ON")

    async def allow_writing(self) -> None:
        """Take writes again."""
        await self.pragma("query_only = OFF")


@asynccontextmanager
async def opened(state_dir: Path) -> AsyncIterator[WatchedStore]:
    """Open the store of a state directory."""
    with running_loop().standing_still():
        context = connection.opened(state_dir)
        store = await context.__aenter__()
    try:
        yield WatchedStore(store._connection, store.path)
    finally:
        with running_loop().standing_still():
            await context.__aexit__(None, None, None)


@dataclass
class Leading:
    """A lead that runs."""

    lead: Lead
    store: WatchedStore
    session: Session
    keys: LeadKeys
    task: asyncio.Task[None]

    async def register(self, content: Registration) -> Version | None:
        """Register as the command does: write, then poke the agent."""
        await register(self.store, content, at=moment.write(now()))
        return await self.lead.record.change()

    @property
    def finding(self) -> str | None:
        """The code of what the lead shows as found."""
        found = self.lead.live()["finding"]
        return str(found["code"]) if isinstance(found, dict) else None


@dataclass
class Shadowing:
    """A shadow that runs."""

    shadow: Shadow
    store: WatchedStore
    session: Session
    task: asyncio.Task[None]

    @property
    def state(self) -> str:
        """How it says it stands."""
        return str(self.shadow.live()["state"])

    async def record(self) -> held.LocalRecord:
        """Read its local record."""
        async with self.store.reading() as tx:
            return await held.local(tx)


class Site:
    """One lead's site. `at_s` of the wire is the virtual clock of tests/virtual_time.py."""

    def __init__(self, directory: Path, broker: MemoryBroker) -> None:
        self.directory = directory
        self.broker = broker
        self._speakers: dict[str, Following] = {}

    # Beginning.

    @property
    def settings(self) -> settings.Settings:
        """The lead's configuration."""
        table = {
            "state_dir": str(self.directory / LEAD),
            "server": {"id": LEAD, "name": "ES 1", "kind": "enterprise-server"},
            "downlink": {"listen": "127.0.0.1:8883", "advertise": ["127.0.0.1"]},
        }
        return settings.load(Found(self.directory / "lead.toml", table, exists=True))

    async def begin_lead(self) -> None:
        """`propagator init --role lead`."""
        self._make(LEAD)
        with running_loop().standing_still():
            await initialise._begin(self.settings, self.directory / "lead.toml", wrote=True, at=AT)

    def _make(self, name: str) -> None:
        (self.directory / name / "keys").mkdir(parents=True, exist_ok=True)

    @property
    def lead_keys(self) -> LeadKeys:
        """The lead's keys."""
        return keys.load_lead_keys(self.directory / LEAD)

    async def enrol(self, *devices: str) -> None:
        """Make shadows that are bound, as after `attach`."""
        lead_keys = self.lead_keys
        async with opened(self.directory / LEAD) as store, store.transaction() as tx:
            for device in devices:
                await members.bind(tx, bound_to(lead_keys, device), at=AT)
        for device in devices:
            await self.make_shadow(device)

    async def make_standalone(self, device: str) -> None:
        """Make the state of a server that follows nobody."""
        self._make(device)
        with running_loop().standing_still():
            await connection.create(self.directory / device)
        async with opened(self.directory / device) as store, store.transaction() as tx:
            await held.create_server(tx, self.server(device), AT)

    async def make_shadow(self, device: str) -> None:
        """Make the state of a server that follows the lead and has heard nothing yet."""
        await self.make_standalone(device)
        async with opened(self.directory / device) as store, store.transaction() as tx:
            link = uplinks.Uplink(LEAD, "ES 1", self.lead_keys.identity, State.UNKNOWN, AT, PERIOD_S)
            await uplinks.attach(tx, link, seq=1, lowest=None, at=AT)

    async def use_won_credentials(self, device: str) -> None:
        """Let a shadow speak with what `attach` won, where `enrol` gives it a key by its name."""
        async with opened(self.directory / device) as store:
            link = await load_link(store, self.directory / device, self.server(device), AT)
        assert link is not None
        self._speakers[device] = link.following

    def server(self, device: str) -> held.Server:
        """Give who a shadow is."""
        system_id = f"SYS-{device}"
        return held.Server(device, device.title(), "server-device", system_id, wants_uplink=True, wants_downlink=False)

    def speaker(self, device: str) -> Following:
        """Give what a shadow signs with."""
        by_name = Following(LEAD, self.lead_keys.identity, self.server(device), key(device), "")
        return self._speakers.get(device, by_name)

    # Running.

    @asynccontextmanager
    async def leading(
        self, *, directory: str = LEAD, seed: int = 1, heartbeat_s: float = PERIOD_S, paused: bool = False
    ) -> AsyncIterator[Leading]:
        """Run the lead."""
        state_dir = self.directory / directory
        async with opened(state_dir) as store:
            lead_keys = keys.load_lead_keys(state_dir)
            begun = keys.begin_lead_session(state_dir, now().timestamp(), Random(seed))
            lead = Lead(
                store,
                Issuer(lead_keys, Random(seed), begun.number),
                self.broker.bus(LEAD, identifier=directory),
                begun,
                state_dir=state_dir,
                now=now,
                rng=Random(seed),
                heartbeat_s=heartbeat_s,
                welcome=Welcome(store, lead_keys, now=now, reload=_nothing).answer,
                paused=paused,
            )
            async with running(lead.run()) as task:
                await until(lambda: task.done() or lead.live()["connected"] or LEAD in self.broker.refused)
                yield Leading(lead, store, begun, lead_keys, task)

    @asynccontextmanager
    async def following(
        self, device: str, *, directory: str | None = None, begun: Session | None = None, seed: int | None = None
    ) -> AsyncIterator[Shadowing]:
        """Run a shadow. `directory`: whose state (a clone runs on a copy); `begun`: a session that is not its own."""
        rng = Random(device if seed is None else seed)
        async with opened(self.directory / (directory or device)) as store:
            if begun is None:
                async with store.transaction() as tx:
                    begun = session.begin(now().timestamp(), await held.last_session(tx), rng)
                    await held.begin_session(tx, begun.number)
            bus = self.broker.bus(device, identifier=directory or device)
            shadow = Shadow(store, self.speaker(device), bus, begun, now=now, rng=rng)
            async with running(shadow.run()) as task:
                yield Shadowing(shadow, store, begun, task)

    async def die(self, account: str, task: asyncio.Task[None]) -> None:
        """End an agent as `kill -9` does: no goodbye, the connection just ends."""
        self.broker.drop(account)
        task.cancel()
        await asyncio.wait([task])

    # Looking.

    def said(self, typ: Typ, kind: type[_Word], *, by: str | None = None) -> list[tuple[Said, _Word]]:
        """Read back what went over the wire: every document of one kind, oldest first."""
        found = []
        for said in self.broker.wire:
            envelope = open_envelope(said.payload)
            if isinstance(envelope, Unreadable) or envelope.typ != typ or by not in {None, said.account}:
                continue
            word = read(kind, envelope.payload)
            if not isinstance(word, Unreadable):
                found.append((said, word))
        return found

    def records(self) -> list[tuple[Said, Record]]:
        """The records that were published, by whomever."""
        return self.said(Typ.RECORD, Record)

    def heartbeats(self, by: str | None = LEAD) -> list[tuple[Said, Heartbeat]]:
        """The heartbeats that an account published."""
        return self.said(Typ.HEARTBEAT, Heartbeat, by=by)

    def reports(self, device: str) -> list[tuple[Said, Report]]:
        """The reports of one shadow."""
        return self.said(Typ.REPORT, Report, by=device)

    def requests(self, device: str) -> list[tuple[Said, Request]]:
        """The requests to one shadow."""
        topic = str(Topic(LEAD, Leaf.REQUEST, device))
        return [(said, word) for said, word in self.said(Typ.REQUEST, Request) if said.topic == topic]

    def births(self, device: str) -> list[tuple[Said, Presence]]:
        """The births and wills of one shadow."""
        return self.said(Typ.PRESENCE, Presence, by=device)

    def member(self, device: str) -> dict[str, object]:
        """Read a shadow's row in the roster, as another process would."""
        columns = ("state", "version", "floor", "confirmed", "cloned", "online", "session", "counter", "report")
        found = rows(
            self.directory / LEAD,
            "SELECT report ->> 'state', report ->> 'version', report -> 'floor' ->> 'version', confirmed, cloned,"
            " online, session, counter, report FROM member WHERE id = ?",
            device,
        )
        assert found, f"{device} is no member"
        return dict(zip(columns, found[0], strict=True))

    async def in_sync(self, *devices: str, within_s: float = 30.0) -> None:
        """Wait until the roster says that these shadows hold the current version, and said so freshly."""
        (current,) = rows(self.directory / LEAD, "SELECT current FROM downlink")[0]

        def are() -> bool:
            return all(
                (row["state"], row["version"], row["confirmed"]) == ("in_sync", current, 1)
                for row in map(self.member, devices)
            )

        await until(are, within_s=within_s)

    # A stranger, and a thief.

    def forged_record(self, written: str, content: Registration | None, **changes: object) -> bytes:
        """Sign a record under the lead's own key that its store never issued: a copy of the lead did, or a thief."""
        number = v(written)
        members_ = {
            "lead": LEAD,
            "system_id": "SYS-other",
            "version": number,
            "lives": life_entries(version.lives_after((), number)),
            "hash": registration.hash_of(content),
            "path": (Hop(id=LEAD, identity=self.lead_keys.identity),),
            "issued_at": AT,
            "registration": content,
            **changes,
        }
        return self.lead_keys.seal(Typ.RECORD, Record(**members_))  # type: ignore[arg-type]


def bound_to(lead_keys: LeadKeys, device: str) -> members.Member:
    """Give a shadow as its lead binds it, with a membership that it signed."""
    serial = Random(device).randbytes(16).hex()
    membership = Membership(device=device, key=key(device).thumbprint, serial=serial)
    written = lead_keys.seal(Typ.MEMBERSHIP, membership).decode()
    return replace(bound(device, device, serial), membership=written, told_seq=lead_keys.seq)


@asynccontextmanager
async def running(work: Coroutine[object, object, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run something as long as the block lasts; what it raises, the block raises."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        ended = task.done() and not task.cancelled()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert not ended or task.exception() is not None, "it ended by itself"


async def until(check: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Wait, in virtual time, until `check()` is true."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while not (value := check()):
        assert loop.time() < deadline_s, f"not within {within_s:g} s; last was {value!r}"
        await asyncio.sleep(0.05)


async def current(store: Store) -> issued.Issue | None:
    """Give what a lead announces."""
    async with store.reading() as tx:
        return await issued.current(tx)


async def _nothing() -> None:
    pass
