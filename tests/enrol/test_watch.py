"""Later editions: what the agent's task asks a portal, what it does with the answers, and what it leaves alone."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from propagator import renewal
from propagator.core import moment, statement
from propagator.core.diagnosis import Code
from propagator.core.state import Origin
from propagator.enrol import watch as watching
from propagator.entering import Entered, Offer
from propagator.register import accept
from propagator.settings import PortalTable
from propagator.store import portals
from tests.enrol import places
from tests.ports import free_port
from tests.store.contents import AT, attach, in_force, opened_for
from tests.unit.builders import key, registered
from tests.unit.test_statement import said as stated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from propagator.core.signing import PrivateKey
    from propagator.store import Store
    from propagator.store.portals import Portal
    from tests.enrol.places import Answer, Place, Request

NOW = moment.read(AT)
PORTAL = key("portal")
DEADLINE_S = 15.0


def signed(edition: int, name: str | None = "Riverside House", by: PrivateKey = PORTAL, **more: object) -> bytes:
    members = {"system_id": "SYS-D", "edition": edition, "serial": f"{edition:022}", "expires_at": None, **more}
    said = stated().model_copy(update={**members, "registration": None if name is None else registered(name)})
    return statement.seal(said, by)


def offered(raw: bytes) -> Answer:
    return places.said({"statement": raw.decode()}, ETag='"2"')


UNCHANGED: Answer = (304, {"ETag": '"1"'}, b"")


@dataclass
class Desk:
    """A portal that answers what it is told to: the last answer for ever."""

    place: Place
    answers: deque[Answer] = field(default_factory=deque)

    @property
    def asked(self) -> list[Request]:
        return [request for request in self.place.requests if request.path == "/api/registration"]


@contextlib.contextmanager
def desk(*answers: Answer) -> Iterator[Desk]:
    left = deque(answers)

    def answer(request: Request) -> Answer:
        if request.path == "/api/portal":
            return places.said(places.about(PORTAL))
        return left.popleft() if len(left) > 1 else left[0]

    with places.http(answer) as place:
        yield Desk(place, left)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_for(tmp_path) as opened:
        yield opened


async def register_at(store: Store, url: str, edition: int = 1) -> None:
    """Register online: edition 1 is in force, and there is a right to ask for more."""
    done = await accept(store, Offer(signed(edition), Origin.PORTAL, trusted=PORTAL.thumbprint), NOW)
    assert isinstance(done, Entered)
    async with store.transaction() as tx:
        await portals.connect(tx, url, "t0ken")


async def known(store: Store) -> Portal:
    async with store.reading() as tx:
        found = await portals.portal(tx)
    assert found is not None
    return found


async def name(store: Store) -> str | None:
    registration = (await in_force(store)).registration
    told: Any = None if registration is None else registration.document
    return None if told is None else str(told["site"]["name"])


@dataclass
class Changes:
    count: int = 0

    async def __call__(self) -> None:
        self.count += 1


def made(store: Store, tmp_path: Path, changes: Changes | None = None, interval_s: float = 10.0) -> watching.Watch:
    return renewal.watch(
        *(store, tmp_path, PortalTable(interval_s=interval_s)),
        change=changes or Changes(),
        now=lambda: dt.datetime.now(dt.UTC),
        rng=random.Random(1),
    )


@contextlib.asynccontextmanager
async def watched(
    store: Store, tmp_path: Path, changes: Changes | None = None, interval_s: float = 10.0
) -> AsyncIterator[watching.Watch]:
    """Run the task as the agent does, poked at once."""
    task = made(store, tmp_path, changes, interval_s)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(task.run())
        task.poke()
        yield task
        running.cancel()


async def until(check: Callable[[], Any]) -> Any:
    """Wait until it is true, and give it."""
    async with asyncio.timeout(DEADLINE_S):
        while not (found := await check() if asyncio.iscoroutinefunction(check) else check()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def finding(store: Store, code: str) -> dict[str, Any]:
    async def there() -> dict[str, Any] | None:
        told: Any = (await known(store)).finding
        return told if told is not None and told["code"] == code else None

    return dict(await until(there))


async def test_the_question_carries_the_right_and_the_edition(store: Store, tmp_path: Path) -> None:
    with desk(UNCHANGED) as portal:
        await register_at(store, portal.place.url())
        async with watched(store, tmp_path):
            asked = (await until(lambda: portal.asked))[0]
    assert (asked.headers["authorization"], asked.headers["if-none-match"]) == ("Bearer t0ken", '"1"')


async def test_a_later_edition_is_put_in_force_and_published(store: Store, tmp_path: Path) -> None:
    changes = Changes()
    with desk(offered(signed(2, "Riverside Tower")), UNCHANGED) as portal:
        await register_at(store, portal.place.url())
        async with watched(store, tmp_path, changes):
            await until(lambda: changes.count)
        assert await name(store) == "Riverside Tower"
    row = await known(store)
    assert (row.edition, row.finding) == (2, None)
    assert (await in_force(store)).origin is Origin.PORTAL


async def test_an_unchanged_registration_is_noted_and_changes_nothing(store: Store, tmp_path: Path) -> None:
    changes = Changes()
    with desk(UNCHANGED) as portal:
        await register_at(store, portal.place.url())
        async with watched(store, tmp_path, changes):

            async def answered() -> str | None:
                return (await known(store)).answered_at

            await until(answered)
    assert changes.count == 0
    assert await name(store) == "Riverside House"


async def test_a_withdrawn_registration_is_withdrawn_here(store: Store, tmp_path: Path) -> None:
    changes = Changes()
    with desk(offered(signed(2, None)), UNCHANGED) as portal:
        await register_at(store, portal.place.url())
        async with watched(store, tmp_path, changes):
            await until(lambda: changes.count)
    assert await name(store) is None


async def test_a_registration_that_moved_is_a_finding_and_is_asked_for_no_more_until_poked(
    store: Store, tmp_path: Path
) -> None:
    gone = places.said({"error": "associated_elsewhere", "error_description": "It moved."}, 410)
    with desk(gone) as portal:
        await register_at(store, portal.place.url())
        async with watched(store, tmp_path) as task:
            told = await finding(store, "PORTAL_MOVED")
            assert len(portal.asked) == 1
            task.poke()
            await until(lambda: len(portal.asked) == 2)
    assert "moved to another System ID" in told["title"]
    assert await name(store) == "Riverside House"


async def test_a_right_that_is_gone_is_a_finding_and_leaves_the_record(store: Store, tmp_path: Path) -> None:
    with desk(places.said({"error": "not_logged_on", "error_description": "No."}, 401)) as portal:
        await register_at(store, portal.place.url())
        async with watched(store, tmp_path):
            told = await finding(store, "PORTAL_RIGHT_REFUSED")
    assert told["confidence"] == "certain"
    assert await name(store) == "Riverside House"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (signed(2, "Forged House", by=key("stranger")), "PORTAL_KEY_CHANGED"),
        (signed(2, "Other House", system_id="SYS-X"), "PORTAL_STATEMENT_REFUSED"),
        (signed(2, "Same House", serial=f"{1:022}"), "PORTAL_STATEMENT_REFUSED"),
        (signed(2)[:-8] + b"AAAAAAAA", "PORTAL_STATEMENT_REFUSED"),
        (b"no statement", "PORTAL_STATEMENT_REFUSED"),
    ],
    ids=["another key", "another System ID", "a serial that was used", "tampered", "none at all"],
)
async def test_a_statement_that_does_not_count_changes_nothing_and_is_a_finding(
    store: Store, tmp_path: Path, raw: bytes, code: str
) -> None:
    with desk(offered(raw)) as portal:
        await register_at(store, portal.place.url())
        before = await in_force(store)
        async with watched(store, tmp_path):
            await finding(store, code)
    assert await in_force(store) == before
    assert (await known(store)).edition == 1


async def test_an_edition_from_before_is_refused(store: Store, tmp_path: Path) -> None:
    with desk(offered(signed(1, "Old House", serial="o" * 22))) as portal:
        await register_at(store, portal.place.url(), edition=3)
        async with watched(store, tmp_path):
            told = await finding(store, "PORTAL_STATEMENT_REFUSED")
    assert "edition 3 is in force" in told["cause"]
    assert await name(store) == "Riverside House"


async def test_a_portal_that_is_away_is_diagnosed_and_back_is_back(store: Store, tmp_path: Path) -> None:
    await register_at(store, f"http://127.0.0.1:{free_port()}")
    async with watched(store, tmp_path) as task:
        told = await finding(store, "PORTAL_CLOSED")
        assert (await known(store)).answered_at is None
        with desk(UNCHANGED) as portal:
            async with store.transaction() as tx:
                await portals.connect(tx, portal.place.url(), "t0ken")
            task.poke()

            async def well() -> bool:
                row = await known(store)
                return row.finding is None and row.answered_at is not None

            await until(well)
    assert told["remedies"]
    assert await name(store) == "Riverside House"


@pytest.mark.parametrize("answer", [places.page(), places.page(302, Location="http://log.on/")])
async def test_a_page_in_the_portals_place_is_diagnosed(store: Store, tmp_path: Path, answer: Answer) -> None:
    with places.http(lambda _: answer) as place:
        await register_at(store, place.url())
        async with watched(store, tmp_path):
            await finding(store, "PORTAL_PAGE")
    assert await name(store) == "Riverside House"


async def test_a_ca_that_cannot_be_read_is_a_finding(store: Store, tmp_path: Path) -> None:
    await register_at(store, "https://portal.invalid")
    (tmp_path / "portal-ca.pem").write_text("no certificate")
    async with watched(store, tmp_path):
        told = await finding(store, "PORTAL_SETTING")
    assert "portal-ca.pem" in told["cause"]


async def test_a_shadow_that_follows_a_lead_asks_nobody(store: Store, tmp_path: Path) -> None:
    with desk(UNCHANGED) as portal:
        await register_at(store, portal.place.url())
        await attach(store)
        task = made(store, tmp_path)
        assert await task._turn() is None, "until it is poked"
        assert portal.asked == []
        async with store.transaction() as tx:
            await tx.run("DELETE FROM uplink")
        assert await task._turn() is not None
        assert len(portal.asked) == 1, "the same task asks once it follows nobody"


async def test_what_a_command_named_meanwhile_is_not_blamed(store: Store, tmp_path: Path) -> None:
    """The answer to a question that was asked with another right is not noted."""
    with desk(places.said({"error": "not_logged_on", "error_description": "No."}, 401)) as portal:
        await register_at(store, portal.place.url())
        async with watched(store, tmp_path):
            await until(lambda: portal.asked)
            await finding(store, "PORTAL_RIGHT_REFUSED")
            async with store.transaction() as tx:
                await portals.note_asked(tx, asked_at=AT, answered_at=None, finding=None)
                await portals.connect(tx, portal.place.url(), "an0ther")
    assert (await known(store)).finding is None


def test_the_codes_that_a_watch_names_are_in_the_catalogue() -> None:
    assert {Code(code) for code in watching.CODES}


def test_an_agent_without_a_portal_loads_neither_httpx_nor_the_diagnosis(tmp_path: Path) -> None:
    code = f"""
import asyncio, datetime, pathlib, random, sys
from propagator import agent, renewal
from propagator.settings import PortalTable
from propagator.store import connection
from tests.store.contents import opened_for

async def main():
    state_dir = pathlib.Path({str(tmp_path)!r})
    async with opened_for(state_dir) as store:
        async def change(): pass
        now = lambda: datetime.datetime.now(datetime.UTC)
        task = renewal.watch(store, state_dir, PortalTable(), change=change, now=now, rng=random.Random())
        task.poke()
        try:
            async with asyncio.timeout(0.5):
                await task.run()
        except TimeoutError:
            pass

asyncio.run(main())
print(sorted({{"httpx", "httpcore", "anyio", "propagator.enrol.http", "propagator.diagnose"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
