"""The story, in order: begin, attach, register, change, kill, ask everybody. What is told was read from the stores."""

from __future__ import annotations

import datetime as dt
import json
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from propagator.core import moment
from propagator.demo import registrations
from propagator.demo.changes import Watch, session_of
from propagator.demo.site import DemoError
from propagator.demo.telling import span
from propagator.tasks import together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from propagator.core.difference import JsonObject
    from propagator.demo.changes import Arrival, Change
    from propagator.demo.registrations import Place
    from propagator.demo.site import Server, Site
    from propagator.demo.telling import Teller

SHOWN_ONE_BY_ONE: Final = 10
"""More shadows than these are summed up."""

TABLE_LINES: Final = 40
"""Of a longer status table the first lines are told."""

WRITE_POLL_S: Final = 0.002
"""How often is looked for the moment to kill in."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of the shadow that was killed: what its store held then, and how long after its start it reported."""

    shadow: str
    killed_after_seconds: float
    held_the_change: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured."""

    shadows: int
    address: str
    changes: tuple[Change, ...]
    recovery: Recovery
    seconds: float
    directory: str | None = None

    def as_json(self) -> JsonObject:
        """Give the figures for scripts."""
        figures: JsonObject = json.loads(json.dumps(asdict(self)))
        return {"schema": 1, "ok": True, **figures}


async def play(site: Site, tell: Teller) -> Figures:
    """Play it. Raises DemoError where something did not hold."""
    await _begin(site, tell)
    await _register_devices(site, tell)
    await _attach(site, tell)
    first, second, third = registrations.OF_LEAD
    tell.step(f"Change 1: the lead is registered, as {first.site}.")
    changes = [await _change(site, tell, first)]
    tell.step(f"Change 2: its registration is changed, to {second.site}.")
    changes.append(await _change(site, tell, second))
    change, recovery = await _change_with_a_kill(site, tell, third)
    changes.append(change)
    await _ask_everybody(site, tell, change)
    return Figures(len(site.shadows), site.address, tuple(changes), recovery, round(tell.elapsed_s, 3))


# Begin.


async def _begin(site: Site, tell: Teller) -> None:
    lead = ("init", "--role", "lead", "--id", site.lead.id, "--name", site.lead.name, "--listen", site.address)

    async def init(server: Server) -> None:
        role = lead if server.leads else ("init", "--role", "shadow", "--id", server.id, "--name", server.name)
        await site.command(server, *role, "--state-dir", str(server.state_dir))

    await _each(site.servers, init, tell, "making keys, stores and configurations")
    tell.step(f"Made {len(site.servers)} servers with keys, stores and configurations of their own.")
    await site.start(site.lead)
    tell.step(f"The lead {site.lead.id} runs; its broker takes TLS at {site.address}.")
    await _each(site.shadows, site.start, tell, "starting shadows")
    runs = "runs, a process of its own" if len(site.shadows) == 1 else "run, each a process of its own"
    tell.step(f"{_named(site.shadows)} {runs}; they know no lead yet.")


async def _register_devices(site: Site, tell: Teller) -> None:
    """Give the first two devices a registration of their own, as they often have one in the field."""
    own = dict(zip(site.shadows, registrations.OWN, strict=False))
    notes: list[str] = []

    async def register(device: Server) -> None:
        _, talk = await site.command(device, "register", str(registrations.write(own[device], site.directory)))
        notes.extend(line for line in talk.splitlines() if line.startswith("Note:"))

    await _each(list(own), register, tell, "registering devices")
    tell.step("Registered on their own, as devices often are before attaching:")
    for device, place in own.items():
        tell.more(f"  {device.id}  {place.site}")
    for note in notes[:1]:
        tell.more(note, dim=True)


async def _attach(site: Site, tell: Teller) -> None:
    async def attach(device: Server) -> None:
        token, _ = await site.command(site.lead, "invite", device.id)
        await site.command(device, "attach", "-", "--yes", given=token)

    await _each(site.shadows, attach, tell, "inviting and attaching")
    await site.until(lambda: _all_heard(site), "every shadow has reported to the lead", log=site.lead.log)
    tell.step(
        f"{_named(site.shadows)} invited and attached. "
        "The lead has no registration yet; until it has, each keeps its own."
    )


def _all_heard(site: Site) -> bool:
    members = site.lead.look().members
    heard = [member for member in members if member.report is not None and member.confirmed and member.online]
    return len(heard) == len(site.shadows)


# Change.


async def _change(site: Site, tell: Teller, place: Place) -> Change:
    """Change the lead's registration; returns when all shadows have reported that they hold it."""
    watch = Watch(site)
    tell.waiting("registering")
    await together(register=_register(site, place), arrivals=_arrivals(site, tell, watch, len(site.shadows)))
    change = _checked(site, watch, place)
    times = [arrival.seconds for arrival in change.arrivals]
    if len(times) > SHOWN_ONE_BY_ONE:
        tell.more(f"Half of them have reported it after {span(statistics.median(times))}.")
    tell.more(f"From the change to the last durable report: {span(change.seconds)}.")
    return change


async def _register(site: Site, place: Place) -> None:
    await site.command(site.lead, "register", str(registrations.write(place, site.directory)))


def _checked(site: Site, watch: Watch, place: Place) -> Change:
    change = watch.change()
    if {change.site, *(arrival.after for arrival in change.arrivals)} != {place.site}:
        raise DemoError(f"Not everybody holds {place.site}.", log=site.lead.log)
    return change


async def _arrivals(site: Site, tell: Teller, watch: Watch, count: int) -> None:
    """Tell of each shadow as its report arrives, until `count` of them have reported."""

    def all_arrived() -> bool:
        for arrival in watch.news():
            _tell_arrival(site, tell, watch, arrival)
        tell.waiting(f"{len(watch.arrived)} of {len(site.shadows)} shadows hold it")
        return len(watch.arrived) >= count

    await site.until(all_arrived, f"{count} shadows hold the change", log=site.lead.log)


def _tell_arrival(site: Site, tell: Teller, watch: Watch, arrival: Arrival) -> None:
    if len(site.shadows) > SHOWN_ONE_BY_ONE:
        return
    before = (arrival.before or "–").ljust(watch.before_width)
    tell.more(f"  {arrival.shadow}  {before} → {arrival.after}  {span(arrival.seconds):>6}")


# Change, with a kill.


async def _change_with_a_kill(site: Site, tell: Teller, place: Place) -> tuple[Change, Recovery]:
    """Kill a shadow the moment the change is written, start it again, and see it converge."""
    victim = site.shadows[-1]
    tell.step(f"Change 3: to {place.site}; {victim.id} is killed as it goes out.")
    watch = Watch(site, dead_sessions={victim.id: session_of(site.lead.look(), victim)})
    at_kill: list[tuple[float, bool]] = []

    async def kill() -> None:
        await site.until(watch.is_written, "the change is written", poll_s=WRITE_POLL_S)
        killed_at = _now()
        site.kill(victim)
        record = site.lead.look().record
        at_kill.append((_seconds(record.stored_at, killed_at), victim.look().record.hash == record.hash))
        await _arrivals(site, tell, watch, len(site.shadows) - 1)

    await together(register=_register(site, place), kill=kill())
    after_s, held = at_kill[0]
    await site.until(lambda: not _is_online(site, victim), f"the lead sees {victim.id} go", log=site.lead.log)
    which = "new" if held else "old"
    tell.more(f"  {victim.id}  SIGKILL {span(after_s)} after the change; its store holds the {which} one")
    tell.more(f"The lead shows {victim.id} as not connected.")
    seconds = await _recover(site, tell, watch, victim)
    change = _checked(site, watch, place)
    tell.more(f"Everybody holds version {change.version}.")
    return change, Recovery(victim.id, after_s, held, seconds)


async def _recover(site: Site, tell: Teller, watch: Watch, victim: Server) -> float:
    """Start a killed shadow again; give the seconds from its start to the report that the lead stored."""
    tell.step(f"{victim.id} is started again.")
    started_at = _now()
    await site.start(victim)
    await _arrivals(site, tell, watch, len(site.shadows))
    arrival = watch.arrived[victim.id]
    written_at = site.lead.look().record.stored_at
    seconds = round(arrival.seconds - _seconds(written_at, started_at), 3)
    tell.more(f"It holds the change, and the lead knows it, {span(seconds)} after its start.")
    return seconds


def _is_online(site: Site, shadow: Server) -> bool:
    return any(member.online for member in site.lead.look().members if member.id == shadow.id)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _seconds(since: str, until: dt.datetime) -> float:
    return round((until - moment.read(since)).total_seconds(), 3)


# The end.


async def _ask_everybody(site: Site, tell: Teller, change: Change) -> None:
    async def ask(server: Server) -> None:
        out, _ = await site.command(server, "status", "--json", fine=(0, 1))
        status = json.loads(out)
        if status["verdict"] != "ok":
            raise DemoError(f"{server.id} has a problem: {status['problems'][0]['text']}", log=server.log)
        if status["record"]["hash"] != change.hash:
            raise DemoError(f"{server.id} holds another registration than its lead.", log=server.log)

    await site.until(lambda: _all_heard(site), "every shadow is connected", log=site.lead.log)
    await _each(site.servers, ask, tell, "asking")
    tell.step(f"All {len(site.servers)} servers asked (status --json): all ok, one hash, {change.hash[:8]}…")
    tell.step("`propagator status` at the lead:")
    tell.plain("")
    await _show_status(site, tell)
    tell.plain("")


async def _show_status(site: Site, tell: Teller) -> None:
    """Show the table: on a terminal the command writes to it itself, unless the table is too long to be read."""
    tell.quiet()
    if tell.on_terminal and len(site.shadows) <= SHOWN_ONE_BY_ONE:
        await site.command(site.lead, "status", onto=tell.out)
        return
    out, _ = await site.command(site.lead, "status")
    lines = out.splitlines()
    tell.plain("\n".join(lines[:TABLE_LINES]))
    if len(lines) > TABLE_LINES:
        tell.plain(f"… and {len(lines) - TABLE_LINES} lines more.")


# In parallel.


async def _each(servers: Sequence[Server], act: Callable[[Server], Awaitable[None]], tell: Teller, doing: str) -> None:
    """Do the same for each server, at once as far as the processors go."""
    done: list[str] = []

    async def one(server: Server) -> None:
        await act(server)
        done.append(server.id)
        tell.waiting(f"{doing}: {len(done)} of {len(servers)}")

    tell.waiting(f"{doing}: 0 of {len(servers)}")
    await together(**{server.id: one(server) for server in servers})


def _named(shadows: Sequence[Server]) -> str:
    """Name one or two shadows, count more."""
    if len(shadows) <= len(registrations.OWN):
        return " and ".join(shadow.id for shadow in shadows)
    return f"All {len(shadows)} shadows"
