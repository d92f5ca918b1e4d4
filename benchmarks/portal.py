"""How long the Registration Portal takes with 10,000 systems on its default database: `python -m benchmarks.portal`.

A real `propagator portal`, asked over HTTP by one client at a time. Each page and API call is asked several times: as
an administrator, who sees all systems, as an integrator, who has all of them, and as a server.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import httpx
from sqlalchemy import insert

from propagator.portal import accounts, database, sessions, systems, tokens, web
from propagator.portal.opening import opened
from propagator.portal.rules import Kind
from propagator.portal.settings import Settings, load
from propagator.portal.tables import Account, Bearer, System

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.core.difference import JsonObject

SYSTEMS: Final = 10_000
ROUNDS: Final = 11
_TOWNS: Final = ("Bristol", "Lyon", "Graz", "Malmö", "Gdańsk", "Porto", "Turin", "Gent")


@dataclass(frozen=True, slots=True)
class Ready:
    """What stands in the database: tokens of who is logged on, and of a server."""

    settings: Settings
    visits: dict[str, tuple[str, str]]
    bearer: str
    number: str


def main() -> None:
    """Measure, print the table, and keep the figures as JSON where that is asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--systems", type=int, default=SYSTEMS)
    options.add_argument("--json", type=Path, metavar="FILE")
    said = options.parse_args()
    figures = measure(said.systems)
    if said.json is not None:
        said.json.write_text(f"{json.dumps(figures, indent=2)}\n")
    print("\n".join(lines(figures, said.systems)))


def measure(count: int = SYSTEMS) -> dict[str, dict[str, float]]:
    """Give, for each page and call, the median and the slowest of its rounds, in seconds."""
    with tempfile.TemporaryDirectory(prefix="propagator-portal-") as folder:
        ready = asyncio.run(_fill(Path(folder) / "portal", count))
        quiet = Path(folder) / "portal.toml"
        quiet.write_text('[log]\nlevel = "error"\n')  # nobody reads its log, and a full pipe would stop it
        words = ("--config", quiet, "--data-dir", ready.settings.data_dir, "--listen", ready.settings.listen)
        command = [str(Path(sys.executable).with_name("propagator")), "portal", *map(str, words)]
        portal = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            for line in portal.stderr or ():
                if line.startswith("It signs"):
                    break
            return {what: _timed(times) for what, times in _asked(ready)}
        finally:
            portal.terminate()
            portal.communicate()


def lines(figures: dict[str, dict[str, float]], count: int) -> Iterator[str]:
    """Give the lines of the table, and the slowest page and API call."""
    yield f"The Registration Portal with {count} systems on SQLite; {ROUNDS} rounds, one client"
    yield ""
    yield f"{'':<46} {'median':>9} {'slowest':>9}"
    for what, took in figures.items():
        yield f"{what:<46} {took['median_s'] * 1000:>6.0f} ms {took['slowest_s'] * 1000:>6.0f} ms"
    yield ""
    for kind, is_api in (("page", False), ("API call", True)):
        held = {what: took["median_s"] for what, took in figures.items() if ("/api/" in what) == is_api}
        slowest = max(held, key=lambda what: held[what])
        yield f"slowest {kind}: {slowest}, {held[slowest] * 1000:.0f} ms"


def _timed(times: list[float]) -> dict[str, float]:
    return {"median_s": round(median(times), 4), "slowest_s": round(max(times), 4)}


async def _fill(folder: Path, count: int) -> Ready:
    """Make a portal's database: two people, and systems of one of them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = load(None, {"data_dir": str(folder), "listen": f"127.0.0.1:{port}"})
    async with opened(settings) as portal, portal.session() as db:
        people = {}
        async with database.edit(db):
            for name, kind in (("administrator", Kind.ADMINISTRATOR), ("integrator", Kind.PARTNER)):
                people[name] = await accounts.add_within(db, None, f"{name}@a.example", name, name, kind, None)
            rows = [_row(number, people["integrator"]) for number in range(count)]
            await db.execute(insert(System), rows)
        visits = {name: await _visit(db, account) for name, account in people.items()}
        bearer, number = tokens.new(), str(rows[0]["number"])
        async with database.edit(db):
            now = dt.datetime.now(dt.UTC)
            kept = {"hash": tokens.hashed(bearer), "number": number, "system_id": "SYS-0", "issued_at": now}
            await db.execute(insert(Bearer), [kept])
        return Ready(settings, visits, bearer, number)


async def _visit(db: AsyncSession, account: Account) -> tuple[str, str]:
    token = await sessions.begin(db, account)
    visit = await sessions.find(db, token)
    return token, "" if visit is None else visit.csrf


def _document(number: int) -> JsonObject:
    return {
        "site": {"type": "single", "name": f"House {number}", "company": f"Company {number % 500} Ltd"},
        "address": {
            "street": f"{number} Quay Street",
            "city": _TOWNS[number % len(_TOWNS)],
            "state": "Somerset",
            "postal_code": f"{number:05}",
            "country": "GB",
        },
        "contact": {"email": f"site-{number}@a.example"},
        "system": {"segments": ["offices"], "applications": ["hvac", "lighting"], "transition": []},
        "consents": {"system_information": True, "personal_information": True},
    }


def _row(number: int, integrator: Account) -> dict[str, object]:
    made, now = _document(number), dt.datetime.now(dt.UTC)
    words = (f"SYS-{number}", f"House {number}", f"Company {number % 500} Ltd", _TOWNS[number % len(_TOWNS)])
    said = {"given": True, "by": integrator.email, "at": "2026-11-24T00:00:00.000Z", "in_person": False}
    return {
        "number": f"R-{number:06}",
        "system_id": f"SYS-{number}",
        "document": json.dumps(made),
        "consented": {"system_information": said, "personal_information": said},
        "search": "\n".join((f"R-{number:06}", *words)).lower(),
        "edition": 1,
        "state": "registered",
        "integrator_id": integrator.id,
        "created_at": now - dt.timedelta(seconds=number),
        "updated_at": now,
    }


def _asked(ready: Ready) -> Iterator[tuple[str, list[float]]]:
    """Ask each page and call; give its name and how long each round took."""
    url = ready.settings.url
    for name, (token, csrf) in ready.visits.items():
        with httpx.Client(base_url=url, headers={"Origin": url}, timeout=120) as client:
            client.cookies.set(web.cookie_name(ready.settings), token)
            for path in _pages(ready, name):
                yield f"GET {path} ({name})", _rounds(client, "GET", path, {})
            if name == "integrator":
                for path, form in _posts(ready):
                    yield f"POST {path} ({name})", _rounds(client, "POST", path, {"csrf": csrf, **form})
    with httpx.Client(base_url=url, timeout=120) as client:
        bearer = {"Authorization": f"Bearer {ready.bearer}"}
        yield "GET /api/portal", _rounds(client, "GET", "/api/portal", {})
        yield "GET /api/registration", _rounds(client, "GET", "/api/registration", {}, bearer)
        known = {**bearer, "If-None-Match": '"13"'}
        yield "GET /api/registration (304)", _rounds(client, "GET", "/api/registration", {}, known)
        asked = {
            "client_id": "propagator",
            "system_id": "SYS-0",
            "server_name": "ES",
            "kind": "enterprise-server",
            "purpose": "register",
        }
        yield "POST /api/device_authorization", _rounds(client, "POST", "/api/device_authorization", asked)


def _pages(ready: Ready, name: str) -> tuple[str, ...]:
    common = ("/", "/systems", f"/systems?page={SYSTEMS // systems.PAGE}", "/systems?q=house+77", "/systems?q=nowhere")
    own = ("/accounts",) if name == "administrator" else ("/systems/new", "/associate/system?system_id=NEW-1")
    return (*common, f"/systems/{ready.number}", *own)


def _posts(ready: Ready) -> tuple[tuple[str, dict[str, str]], ...]:
    """Give an edit that changes something each time (`*` is replaced), and a Registration code."""
    fields = {f"{part}.{name}": str(value) for part, members in _flat(_document(0)) for name, value in members.items()}
    lists = {"system.segments": "offices", "system.applications": "hvac", "system.transition": ""}
    edit = {**fields, **lists, "site.name": "House *"}
    return (f"/systems/{ready.number}/edit", edit), (f"/systems/{ready.number}/code", {})


def _flat(document: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    for part in ("site", "address", "contact"):
        members = document[part]
        if isinstance(members, dict):
            yield part, members


def _rounds(
    client: httpx.Client, method: str, path: str, form: dict[str, str], headers: dict[str, str] | None = None
) -> list[float]:
    times = []
    for _ in range(ROUNDS):
        sent = {name: re.sub(r"\*", secrets.token_hex(4), value) for name, value in form.items()}
        began = time.perf_counter()
        answer = client.request(method, path, data=sent or None, headers=headers)
        times.append(time.perf_counter() - began)
        if answer.status_code not in {200, 303, 304}:
            sys.exit(f"{method} {path} was answered {answer.status_code}: {answer.text[:500]}")
    return times


if __name__ == "__main__":
    main()
