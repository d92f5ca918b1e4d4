"""A lead's half of a diagnosis: its own port, its firewall, and the reverse probe that asks a shadow to try again.

The reverse probe sends a signed request to the endpoint that a device opens for it (`probe_listen`), watches the own
port meanwhile, and joins what both have seen (FIREWALL.md §5).
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import json
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, cast

from propagator import control, downlink, keys, snapshot
from propagator.core import moment, signing
from propagator.core.conntrack import latest
from propagator.core.diagnosis.joint import join, judge_lead
from propagator.core.errors import RefusedError, StateError, Unreadable
from propagator.core.record import read
from propagator.core.wire import Report, Request, Typ
from propagator.diagnose import filtering, missing
from propagator.diagnose.telling import SCHEMA, finding, verdict_of
from propagator.diagnose.watching import usual, watching
from propagator.firewall.state import NotRead
from propagator.probe import kernel

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping
    from pathlib import Path

    from propagator.core.diagnosis import Verdict
    from propagator.core.diagnosis.seen import LeadSide
    from propagator.core.difference import JsonObject, JsonValue
    from propagator.diagnose.missing import Missing
    from propagator.settings import Settings
    from propagator.snapshot import Member

ANSWER_S: Final = 30.0
"""A diagnosis takes 20 s at most; the rest is for the way."""

ANSWER_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """What a lead found: what it saw, the verdict; after a reverse probe also the shadow's own.

    `unread` says why the rules of the own firewall were wanted and not to be had.
    """

    side: LeadSide
    verdict: Verdict
    at: str
    device: str | None = None
    shadow: Verdict | None = None
    unread: str = ""
    missing: tuple[Missing, ...] = ()

    def as_json(self) -> JsonObject:
        """The JSON of `propagator diagnose` on a lead."""
        seen: JsonObject = cast("JsonObject", dataclasses.asdict(self.side))
        return {
            "schema": SCHEMA,
            "role": "lead",
            "at": self.at,
            "device": self.device,
            "lead": {**seen, "swallowed": self.side.swallowed, "filter_not_read": self.unread or None},
            "shadow": None if self.shadow is None else finding(self.shadow),
            "missing": [dataclasses.asdict(each) for each in self.missing],
            "verdict": finding(self.verdict, self.side.filter, self.at),
        }


@dataclass(frozen=True, slots=True)
class Means:
    """By what means a lead looks beside its own sockets and counters.

    `wire`: at the interface, which needs root; `rules`: read the firewall's rules, as root at once, else as the helper
    unit wrote them; `source`: reckon them for a connection from this address.
    """

    wire: bool = False
    rules: bool = False
    source: str | None = None


async def look(wanted: Settings, seconds: float, now: dt.datetime, means: Means) -> Found:
    """Watch the own port for a while, and judge it. Raises StateError where this server leads nobody."""
    port = _port(wanted)
    background = await usual(seconds)
    async with watching(port, wire=means.wire, earlier=True) as watch:
        await asyncio.sleep(seconds)
        side = replace(watch.seen(), usual=background)
    away = missing.read(wanted.state_dir)
    live = await _live(wanted.state_dir, [each.id for each in away])
    away = missing.placed(away, live.addresses)
    about = tuple(dict.fromkeys(address for each in away for address in each.addresses))
    side, unread = await _with_rules(replace(side, at_cap=live.at_cap, about=about), means)
    verdict = judge_lead(side, _own_addresses(wanted)).knowing(**_facts(wanted, port))
    return Found(side, verdict, moment.write(now), unread=unread, missing=missing.followed(away, side))


async def probe(wanted: Settings, device: str, where: tuple[str, int] | None, now: dt.datetime, means: Means) -> Found:
    """Let a device diagnose its way here while this lead watches; give the verdict of both views.

    `where` is the device's `probe_listen`; without it a connected device is asked over the broker. Raises StateError
    for a device that is no shadow of this lead, RefusedError if it does not answer, or says no.
    """
    port = _port(wanted)
    member = _member(wanted.state_dir, device)
    async with watching(port, wire=means.wire) as watch:
        try:
            told = await _told_by(member, where, wanted.state_dir, now)
        except RefusedError:
            if not _is_full(side := watch.seen()):  # then our own first packets find no place either
                raise
            return Found(side, judge_lead(side).knowing(**_facts(wanted, port)), moment.write(now), device)
        await asyncio.sleep(0.2)  # what was sent last is on its way
        side = watch.seen()
    side = replace(side, usual=await usual(side.window_s))  # now: the device holds still after its answer
    shadow = verdict_of(told)
    facts = _facts(wanted, port)
    live = await _live(wanted.state_dir, [device])
    about = missing.addresses_of(device, live.addresses) or _networks(shadow)
    side = replace(side, at_cap=live.at_cap, about=about, dialled=shadow.address)
    side, unread = await _with_rules(side, replace(means, source=means.source or _from_network(shadow)))
    joined = join(shadow, side).knowing(**facts)
    return Found(side, joined, moment.write(now), device, shadow.knowing(**facts), unread)


@dataclass(frozen=True, slots=True)
class Live:
    """What the running agent knows of its broker: whether it turns others away, and whence devices came."""

    at_cap: bool = False
    addresses: Mapping[str, JsonValue] = field(default_factory=dict)


ASKED: Final = 100
"""Devices whose addresses are asked for: a request has its limit."""


async def _live(state_dir: Path, devices: list[str]) -> Live:
    """Ask the running agent; without one nothing is known."""
    whence: list[JsonValue] = [*devices[:ASKED]]
    reply = await asyncio.to_thread(control.ask, state_dir, "live", whence=whence)
    link = (reply or {}).get("downlink")
    if not isinstance(link, dict):
        return Live()
    addresses = link.get("addresses")
    return Live(link.get("connections_at_cap") is True, addresses if isinstance(addresses, dict) else {})


async def _with_rules(side: LeadSide, means: Means) -> tuple[LeadSide, str]:
    """Add what the own firewall makes of the port, and who is tracked; if that was not to be had, why."""
    if not means.rules:
        return side, ""
    found = await asyncio.to_thread(filtering.rules, now=True)
    if isinstance(found, NotRead):
        return side, f"{found.text} {found.hint}"
    since_s = max(0, round(time.time() - found.taken_s))
    flows = tuple(replace(flow, age_s=flow.age_s + since_s) for flow in found.flows.found if flow.port == side.port)
    came = latest(flows, side.about)
    unrouted = () if came is None or kernel.route(came.peer) is not None else (came.peer,)
    side = replace(side, flows=flows, flows_unread=found.flows.unread, unrouted=unrouted)
    judged = [
        await asyncio.to_thread(filtering.of_port, found, side.port, source)
        for source in ((means.source,) if means.source else filtering.neighbours())
    ]
    closed = next((each for each in judged if each.outcome != "accept"), None)
    chosen = closed or next(iter(judged), None)
    return replace(side, filter=chosen), "" if chosen is not None else "This host is in no network."


def _networks(shadow: Verdict) -> tuple[str, ...]:
    """Give the shadow's network, if its verdict names it."""
    try:
        return (str(ipaddress.ip_network(shadow.facts["network"])),)
    except (KeyError, ValueError):
        return ()


def _from_network(shadow: Verdict) -> str | None:
    """Give an address of the shadow's network, if its verdict names it."""
    for network in map(ipaddress.ip_network, _networks(shadow)):
        return str(network.network_address + 1 if network.num_addresses > 1 else network.network_address)
    return None


def _port(wanted: Settings) -> int:
    if wanted.downlink is None:
        raise StateError("This server leads nobody.", hint="propagator diagnose, without options of a lead")
    if wanted.downlink.external is not None:
        hint = "run it on the broker's host, or on a shadow: propagator diagnose"
        raise StateError("The broker of this lead is an external one: its port is not on this host.", hint=hint)
    return wanted.downlink.listen.port


def _facts(wanted: Settings, port: int) -> dict[str, str]:
    return {"port": str(port), "lead": wanted.server.name}


def _own_addresses(wanted: Settings) -> tuple[str, ...]:
    return () if wanted.downlink is None else downlink.advertised(wanted.downlink)


def _member(state_dir: Path, device: str) -> Member:
    member = next((each for each in snapshot.read(state_dir).members if each.id == device), None)
    if member is None:
        raise StateError(f"{device!r} is no shadow of this lead.", hint="propagator status")
    return member


async def _told_by(member: Member, where: tuple[str, int] | None, state_dir: Path, now: dt.datetime) -> JsonObject:
    """Let the device diagnose; gives its finding."""
    if where is None:
        return await _over_the_broker(state_dir, member.id)
    return await _directly(state_dir, member, where, now)


def _is_full(side: LeadSide) -> bool:
    return side.conntrack is not None and side.conntrack.is_full


async def _over_the_broker(state_dir: Path, device: str) -> JsonObject:
    """Ask through the running agent, and wait for the report that says what the device found."""
    reply = await asyncio.to_thread(control.ask, state_dir, "probe", device=device)
    if reply is None:
        raise StateError("No agent answers here, and the device is asked through it.", hint="propagator status")
    if reply.get("ok") is not True or reply.get("nonce") is None:
        raise RefusedError(
            str(reply.get("error", "The lead has no connection to its broker.")), hint="propagator status"
        )
    for _ in range(round(ANSWER_S / _LOOK_S)):
        await asyncio.sleep(_LOOK_S)
        told = await asyncio.to_thread(control.ask, state_dir, "probed", device=device, nonce=reply["nonce"])
        report = (told or {}).get("report")
        if isinstance(report, dict):
            said = report.get("finding")
            return said if isinstance(said, dict) else {}
    hint = f"let it be asked directly: propagator diagnose --device {device} --at HOST:PORT, its probe_listen"
    raise RefusedError(f"{device} gives no answer over the broker.", hint=hint)


_LOOK_S: Final = 0.25


async def _directly(state_dir: Path, member: Member, where: tuple[str, int], now: dt.datetime) -> JsonObject:
    """Ask at the endpoint that the device opens for it."""
    lead_keys = keys.load_lead_keys(state_dir)
    request = Request(nonce=secrets.token_urlsafe(24), wanted="probe", at=moment.write(now))
    raw = await _ask(where, lead_keys.seal(Typ.REQUEST, request))
    return _report(raw, lead_keys.lead, member, request.nonce).finding or {}


async def _ask(where: tuple[str, int], request: bytes) -> bytes:
    """Send the request, wait for the line that answers it."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(*where, limit=ANSWER_BYTES)
            try:
                writer.write(request + b"\n")
                await writer.drain()
                return (await reader.readuntil(b"\n")).rstrip()
            finally:
                writer.transport.abort()
    except asyncio.IncompleteReadError as error:
        text = "The device ended the connection without an answer: it does not take this lead for its own."
        raise RefusedError(text, hint="on the device: propagator status") from error
    except (OSError, TimeoutError, asyncio.LimitOverrunError) as error:
        text = f"{where[0]}, port {where[1]}, gives no answer ({str(error) or 'the time was up'})."
        hint = "set [uplink] probe_listen on the device; if it is set, both directions are closed: look at the network"
        raise RefusedError(text, hint=hint) from error


def _report(raw: bytes, lead: str, member: Member, nonce: str) -> Report:
    if raw.startswith(b"{"):
        raise _no(raw)
    envelope = signing.open_envelope(raw)
    strange = RefusedError("What answered is not that device.", hint="check the address")
    if isinstance(envelope, Unreadable) or not envelope.verified:
        raise strange
    if (envelope.typ, envelope.lead, envelope.sender, envelope.kid) != (Typ.REPORT, lead, member.id, member.key):
        raise strange
    report = read(Report, envelope.payload)
    if isinstance(report, Unreadable) or report.nonce != nonce:
        raise strange
    return report


def _no(raw: bytes) -> RefusedError:
    try:
        said = json.loads(raw)
    except ValueError:
        said = {}
    why = str(said.get("refused", "no reason"))[:40]
    if why == "clock":
        text = f"The device's clock is {said.get('skew_s')} s away from this one's."
        return RefusedError(text, hint="set the device's clock, or this one's")
    return RefusedError(f"The device does not probe now ({why}).", hint=f"try again in {said.get('wait_s', 10)} s")
