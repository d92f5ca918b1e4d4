"""Rounds of: change the registration, kill -9 an agent or the broker at a random moment, start it again (F32, F24).

What must hold in every round: each shadow ends equal to its lead, no version ever goes down, and what was once reported
as held is still held. PROPAGATOR_ROUNDS sets how many, PROPAGATOR_SEED repeats a run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from propagator.core import version
from propagator.core.version import Order, Version
from tests.acceptance.site import Server, environment, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.site import Site

IN_CI = 20
ROUNDS = int(os.environ.get("PROPAGATOR_ROUNDS", IN_CI))
ALL_ROUNDS = 200
MOMENT_S = 1.2
"""A change takes about this long from the command to the last report: the kill falls anywhere into it."""
HEALED_S = 120.0


@pytest.mark.parametrize(
    "rounds",
    [pytest.param(ROUNDS, id="rounds"), pytest.param(ALL_ROUNDS, id="all rounds", marks=pytest.mark.slow)],
)
def test_f32_every_shadow_ends_equal_to_its_lead_whoever_is_killed(site: Site, rounds: int) -> None:
    seed = int(os.environ.get("PROPAGATOR_SEED", random.SystemRandom().randrange(10**6)))
    print(f"PROPAGATOR_SEED={seed} PROPAGATOR_ROUNDS={rounds}")  # noqa: T201  to repeat it by
    rng = random.Random(seed)
    lead, *shadows = site.settled()
    site.start(lead, *shadows)
    watch = Watch(lead, shadows)
    for number in range(rounds):
        victim = rng.choice(["es-1", "as-1", "as-2", "broker"])
        moment_s = rng.uniform(0, MOMENT_S)
        print(f"round {number}: {victim} after {moment_s:.3f} s")  # noqa: T201  as above
        register = registering(lead, site.registration(f"House {number}"))
        watch.look()
        with contextlib.suppress(subprocess.TimeoutExpired):
            register.wait(moment_s)
        kill(site, victim)
        watch.look()
        restart(site, victim)
        assert register.wait(60) == 0
        eventually(watch.all_equal, f"all are equal in round {number} of seed {seed}", HEALED_S)
        assert lead.record()["registration"]["site"]["name"] == f"House {number}"
        watch.look()
    watch.check_whole_history(rounds)
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    for server in (lead, *shadows):
        assert not [line for line in server.lines() if "Traceback" in line]


def registering(lead: Server, file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [lead.site.command, "register", file, "--config", lead.config],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )


def kill(site: Site, victim: str) -> None:
    if victim != "broker":
        site.servers[victim].kill()
        return
    with contextlib.suppress(ProcessLookupError):
        if pid := site.servers["es-1"].broker_pid():  # none: it is being started again
            os.kill(pid, signal.SIGKILL)


def restart(site: Site, victim: str) -> None:
    """An agent is started again, as systemd would; a broker by its agent."""
    if victim != "broker":
        site.servers[victim].start()


class Watch:
    """Looks at the databases, as another program may, and remembers the highest that each said."""

    def __init__(self, lead: Server, shadows: list[Server]) -> None:
        self._lead = lead
        self._shadows = shadows
        self._issued: Version | None = None
        self._floors: dict[str, Version] = {}
        self._reported: dict[str, Version] = {}

    def look(self) -> None:
        """Hold what is there now against what was there before. Reports are read first: they come after the commit."""
        for row in self._lead.query("SELECT id, json_extract(report, '$.version') AS version FROM member"):
            if row["version"] is not None:
                self._reported[row["id"]] = not_lower(self._reported.get(row["id"]), parsed(row["version"]))
        for shadow in self._shadows:
            floor = parsed(shadow.query("SELECT version FROM floor")[0]["version"])
            held = parsed(shadow.query("SELECT version FROM record")[0]["version"])
            self._floors[shadow.id] = not_lower(self._floors.get(shadow.id), floor)
            not_lower(self._reported.get(shadow.id), floor)
            not_lower(self._reported.get(shadow.id), held)
        self._issued = not_lower(self._issued, parsed(self._lead.query("SELECT current FROM downlink")[0]["current"]))

    def all_equal(self) -> bool:
        """Say whether lead, shadows and roster agree, on what is durable."""
        self.look()
        issued = one(self._lead, "SELECT current AS version, hash FROM downlink JOIN issue ON current = version")
        own = one(self._lead, "SELECT version, hash FROM record WHERE pending = 0")
        rows = self._lead.query(
            "SELECT json_extract(report, '$.version') AS version, json_extract(report, '$.hash') AS hash FROM member"
        )
        held = [one(shadow, "SELECT version, hash FROM record") for shadow in self._shadows]
        return all(found == issued for found in (own, *rows, *held))

    def check_whole_history(self, rounds: int) -> None:
        """Nothing that happened between two looks is missed: it is all in the stores."""
        versions = [row["version"] for row in self._lead.query("SELECT version FROM issue ORDER BY number")]
        assert rising(versions)
        assert len(versions) >= rounds
        for shadow in self._shadows:
            rows = shadow.query("SELECT version FROM history WHERE event = 'overwritten' ORDER BY id")
            assert rising([row["version"] for row in rows])
            assert {row["version"] for row in rows} <= set(versions)
            last = one(shadow, "SELECT before, after FROM history ORDER BY id DESC LIMIT 1")
            assert last is not None
            assert last["before"] != last["after"]
        changes = self._lead.query("SELECT before, after FROM history WHERE event = 'registered' ORDER BY id")
        assert len(changes) == rounds + 1
        assert [row["after"] for row in changes[:-1]] == [row["before"] for row in changes[1:]]


def one(server: Server, sql: str) -> dict[str, Any] | None:
    rows = server.query(sql)
    return rows[0] if rows else None


def parsed(text: str) -> Version:
    found = version.parse(text)
    assert found is not None, text
    return found


def not_lower(before: Version | None, now: Version) -> Version:
    assert before is None or now.compared_to(before) in {Order.EQUAL, Order.HIGHER}, f"{now} after {before}"
    return now


def rising(written: list[str]) -> bool:
    versions = [parsed(text) for text in written]
    pairs = zip(versions[1:], versions[:-1], strict=True)
    return all(later.compared_to(earlier) is Order.HIGHER for later, earlier in pairs)
