"""The schedule of one seed, drawn before anything runs: which servers there are, and what happens to them.

Which verb draws which line of docs/faults.md (an id that several verbs draw stands with each):

| drawn as | ids |
|---|---|
| change, own (a detached server registers itself, and is attached again) | F24, F26, F48 |
| die, die-at-commit | F11, F21, F24, F26, F32 |
| part, swizzle, drop, weather (late, twice, out of order) | F21, F22, F23, F26, F31, F42 |
| broker (restarts, forgets, goes back) | F05, F27, F30; F56 by the layouts whose broker answers no wildcard |
| withhold (heartbeats, records, reports, requests) | F12 |
| clock (1970, in ten years, an hour back, while it runs or not) | F36 |
| bad-disk (full, read-only, failing, locked) | F33, F34 |
| bit-flip (in the registration, in the signed bytes) | F35 |
| lose (the database, the whole disk) | F07, F25 |
| back (the disk or the database of earlier, edited or not) | F07, F08, F52 |
| clone-lead, clone-device | F03, F18 |
| leave (detach, revoke, move), circle | F13, F17, F48, F50 |
| token (one that was used already, by somebody else) | F14, F54 |
| rotate | F02 |
| rogue: replays, old records, reports, wills and heartbeats | F01, F10, F11, F49, F57 |
| rogue: another lead's record, another identity's, crossed, junk, nothing | F03, F04, F05, F06, F41, F58 |
| rogue: a shadow's account and key | F10, F19, F53 |
| rogue: the stolen signing key (highest version, fork, poison) | F02, F09, F28 |

What is left to real processes, sockets and documents: F15, F16, F20, F29, F37 to F40, F43 to F47, F51, F55.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from tests.simulation import rogue
from tests.simulation.schedule import Layout, Schedule, Step

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE_EVERY: Final = 80
"""Every how-manieth seed is one of the large sizes; the others are small."""

LARGE: Final = (10, 12, 16, 20, 25, 32, 40, 50)
SMALL: Final = (3, 3, 3, 4, 4, 4, 5, 5, 6, 7)
"""How many servers; a large world costs ten times a small one, and most of what goes wrong needs three servers."""


def draw(seed: int, servers: int | None = None) -> Schedule:
    """Draw the schedule of a seed; `servers` overrides how many there are."""
    rng = Random(f"{seed}/schedule")
    is_large = seed % LARGE_EVERY == LARGE_EVERY - 1
    count = servers or rng.choice(LARGE if is_large else SMALL)
    layout = _layout(rng, count)
    steps: list[Step] = []
    for _ in range(rng.randint(4, 8) if is_large else rng.randint(2, 8)):
        verb = rng.choices(list(_FAULTS), [weight for weight, _ in _FAULTS.values()])[0]
        steps += _FAULTS[verb][1](rng, layout)
    return Schedule(seed, layout, tuple(steps))


def _layout(rng: Random, count: int) -> Layout:
    lead_of: dict[str, str | None] = {}
    if count >= 4 and (count >= min(LARGE) or rng.random() < 0.6):
        tops = ["ec-1", "ec-2"] if count >= 5 and rng.random() < 0.4 else ["ec-1"]
        few = 2 if count >= 6 and rng.random() < 0.5 else 1
        lead_of.update(dict.fromkeys(tops))
        for number in range(1, 1 + max(few, (count - len(tops)) // 5)):
            lead_of[f"es-{number}"] = rng.choice(tops)
        leads = [server for server, lead in lead_of.items() if lead]
    else:
        lead_of["es-1"] = None
        leads = ["es-1"]
    everyone = list(lead_of)
    for number in range(1, count - len(lead_of) + 1):
        lead_of[f"as-{number}"] = leads[(number - 1) % len(leads)] if rng.random() < 0.8 else rng.choice(everyone)
    external = [lead for lead in everyone if rng.random() < 0.3]
    return Layout(lead_of, frozenset(external), frozenset(lead for lead in external if rng.random() < 0.5))


def _wait(rng: Random) -> float:
    """Often at once, now and then after a while."""
    return round(rng.choice((0.0, rng.uniform(0, 1), rng.uniform(0, 5), rng.expovariate(1 / 30))), 2)


def _outage(rng: Random) -> float:
    """Draw how long something stays away: from a blink to minutes."""
    return round(rng.choice((0.0, rng.uniform(0, 5), rng.uniform(0, 60), rng.expovariate(1 / 100))), 2)


def _content(rng: Random) -> str:
    return f"site {rng.randrange(10_000)}"


def _register(rng: Random, layout: Layout, wait_s: float) -> Step:
    return Step(wait_s, "register", rng.choice(layout.tops), (_content(rng),))


def _lead_of_some(rng: Random, layout: Layout) -> str:
    """Draw a lead; one with shadows, if there is one."""
    return rng.choice([lead for lead in layout.leads if layout.below(lead)] or layout.leads)


def _change(rng: Random, layout: Layout) -> list[Step]:
    if rng.random() < 0.2:
        return [Step(_wait(rng), "undo", rng.choice(layout.tops))]
    return [_register(rng, layout, _wait(rng))]


def _die(rng: Random, layout: Layout) -> list[Step]:
    who = rng.choice(list(layout.lead_of))
    during = [_register(rng, layout, _wait(rng))] if rng.random() < 0.5 else []
    return [Step(_wait(rng), rng.choice(("stop", "kill", "kill")), who), *during, Step(_outage(rng), "start", who)]


def _die_at_commit(rng: Random, layout: Layout) -> list[Step]:
    who = rng.choice(list(layout.lead_of))
    trap = Step(_wait(rng), "kill-at-commit", who, (rng.randint(1, 4), rng.choice(("before", "after"))))
    return [trap, _register(rng, layout, 0.0), Step(_outage(rng), "start", who)]


def _part(rng: Random, layout: Layout) -> list[Step]:
    who = rng.choice([server for server, lead in layout.lead_of.items() if lead or server in layout.external])
    during = [_register(rng, layout, _wait(rng))] if rng.random() < 0.5 else []
    return [Step(_wait(rng), "part", who), *during, Step(_outage(rng), "heal", who)]


def _swizzle(rng: Random, layout: Layout) -> list[Step]:
    """Clog some links one after the other, then open them one by one in another order (FoundationDB's swizzle-clog)."""
    links = [(server, lead) for server, lead in layout.lead_of.items() if lead]
    links += [(lead, lead) for lead in sorted(layout.external)]
    some = rng.sample(links, rng.randint(1, len(links)))
    steps = [Step(_wait(rng), "clog", server, (lead,)) for server, lead in some]
    if rng.random() < 0.7:
        steps.append(_register(rng, layout, _wait(rng)))
    rng.shuffle(some)
    return [*steps, *(Step(_wait(rng), "unclog", server, (lead,)) for server, lead in some)]


def _withhold(rng: Random, layout: Layout) -> list[Step]:
    """A broker acknowledges some documents, and keeps them from everybody."""
    lead = _lead_of_some(rng, layout)
    leaf = (rng.choice(("heartbeat", "heartbeat", "registration", "report", "request")),)
    during = [_register(rng, layout, _wait(rng))] if rng.random() < 0.5 else []
    return [Step(_wait(rng), "withhold", lead, leaf), *during, Step(2 * _outage(rng), "let-pass", lead, leaf)]


def _drop(rng: Random, layout: Layout) -> list[Step]:
    return [Step(_wait(rng), "drop", rng.choice(list(layout.lead_of))) for _ in range(rng.randint(1, 4))]


def _weather(rng: Random, layout: Layout) -> list[Step]:
    who = rng.choice(list(layout.lead_of))
    bad = (rng.choice((0.05, 0.5, 3.0)), rng.choice((0.0, 0.3)), rng.choice(("in order", "reordered")))
    return [Step(_wait(rng), "weather", who, bad)]


def _broker(rng: Random, layout: Layout) -> list[Step]:
    how = rng.choice(("restarts", "forgets", "goes back"))
    return [Step(_wait(rng), "broker", _lead_of_some(rng, layout), (how,))]


def _clock(rng: Random, layout: Layout) -> list[Step]:
    who = rng.choice(list(layout.lead_of))
    steps = [Step(_wait(rng), "clock", who, (rng.choice(("at 1970", "10 years ahead", "an hour back")),))]
    if rng.random() < 0.7:
        steps += [Step(_wait(rng), "kill", who), Step(_wait(rng), "start", who)]
    if rng.random() < 0.5:
        steps.append(Step(_wait(rng), "clock", who, ("right",)))
    return steps


def _bad_disk(rng: Random, layout: Layout) -> list[Step]:
    who = rng.choice(list(layout.lead_of))
    bad = [Step(_wait(rng), "spoil-disk", who, (rng.choice(("full", "read-only", "failing", "locked")),))]
    bad.append(_register(rng, layout, _wait(rng)))
    if rng.random() < 0.3:
        bad += [Step(_wait(rng), "kill", who), Step(_wait(rng), "start", who)]
    return [*bad, Step(_outage(rng), "mend-disk", who)]


def _bit_flip(rng: Random, layout: Layout) -> list[Step]:
    who = rng.choice([server for server, lead in layout.lead_of.items() if lead])
    return [Step(_wait(rng), "flip-bit", who, (rng.choice(("registration", "raw")),))]


def _lose(rng: Random, layout: Layout) -> list[Step]:
    return [
        Step(_wait(rng), rng.choice(("lose-database", "lose-database", "reinstall")), rng.choice(list(layout.lead_of)))
    ]


def _back(rng: Random, layout: Layout) -> list[Step]:
    """A backup, changes that it does not know, and its return."""
    who = rng.choice(list(layout.lead_of))
    changes = [_register(rng, layout, _wait(rng)) for _ in range(rng.randint(0, 3))]
    what = rng.choice(("the disk", "the database"))
    edited = _content(rng) if rng.random() < 0.4 else ""
    between = [Step(_wait(rng), "kill", who), Step(0.0, "start", who)] if rng.random() < 0.3 else []
    return [Step(_wait(rng), "backup", who), *changes, *between, Step(_wait(rng), "restore", who, (what, edited))]


def _clone_lead(rng: Random, layout: Layout) -> list[Step]:
    lead = _lead_of_some(rng, layout)
    below = layout.below(lead)
    moved = tuple(shadow for shadow in below if rng.random() < 0.5)
    during = [
        Step(_wait(rng), "reroute", rng.choice(below), (lead,))
        if below and rng.random() < 0.6
        else _register(rng, layout, _wait(rng))
        for _ in range(rng.randint(0, 4))
    ]
    stays = rng.choice(("the original stays", "the copy stays"))
    return [Step(_wait(rng), "clone", lead, moved), *during, Step(_outage(rng), "end-clone", lead, (stays,))]


def _clone_device(rng: Random, layout: Layout) -> list[Step]:
    device = rng.choice(layout.devices or layout.leads)
    stays = rng.choice(("the original stays", "the copy stays"))
    return [Step(_wait(rng), "clone", device), Step(_outage(rng), "end-clone", device, (stays,))]


def _leave(rng: Random, layout: Layout) -> list[Step]:
    """A server leaves its lead, and mostly comes back, or follows another one."""
    followers = [server for server, lead in layout.lead_of.items() if lead]
    if not followers:
        return []
    who = rng.choice(followers)
    lead = str(layout.lead_of[who])
    others = [other for other in layout.leads if other != who and layout.lead_of[other] != who]
    if rng.random() < 0.4:
        return [Step(_wait(rng), "attach", who, (rng.choice(others),))]
    how = rng.choice(("detach", "detach", "revoke"))
    left = Step(_wait(rng), "revoke", lead, (who,))
    if how == "detach":
        left = Step(_wait(rng), "detach", who, (rng.choice(("keep", "restore")),))
    again = [Step(_outage(rng), "attach", who, (rng.choice((lead, rng.choice(others))),))] if rng.random() < 0.8 else []
    return [left, *again]


def _own(rng: Random, layout: Layout) -> list[Step]:
    """A server is detached, registers itself, and is attached again: its lead's record overwrites its own (F48)."""
    who = rng.choice([server for server, lead in layout.lead_of.items() if lead])
    return [
        Step(_wait(rng), "detach", who, (rng.choice(("keep", "restore")),)),
        Step(_wait(rng), "register", who, (_content(rng),)),
        Step(_wait(rng), "attach", who, (str(layout.lead_of[who]),)),
    ]


def _circle(rng: Random, layout: Layout) -> list[Step]:
    """Two relays follow each other, for a while or until people see it (F17)."""
    if len(layout.relays) < 2:
        return _leave(rng, layout)
    first, second = rng.sample(layout.relays, 2)
    steps = [Step(_wait(rng), "attach", first, (second,)), Step(_wait(rng), "attach", second, (first,))]
    if rng.random() < 0.5:
        steps.append(Step(_outage(rng), "attach", second, (str(layout.lead_of[second]),)))
    return steps


def _token(rng: Random, layout: Layout) -> list[Step]:
    """Somebody attaches with a token that a server has used already."""
    who = rng.choice([server for server, lead in layout.lead_of.items() if lead])
    lead = str(layout.lead_of[who])
    return [Step(_wait(rng), "attach", who, (lead,)), Step(_wait(rng), "use-token-again", who)]


def _rotate(rng: Random, layout: Layout) -> list[Step]:
    return [Step(_wait(rng), "rotate", _lead_of_some(rng, layout))]


def _rogue(rng: Random, layout: Layout) -> list[Step]:
    lead = _lead_of_some(rng, layout)
    return [Step(_wait(rng), "rogue", lead, (rng.choice(rogue.WITHOUT_KEYS),)) for _ in range(rng.randint(1, 3))]


def _thief(rng: Random, layout: Layout) -> list[Step]:
    """A rogue who has a key: a device's own, or the lead's signing key."""
    return [Step(_wait(rng), "rogue", _lead_of_some(rng, layout), (rng.choice(rogue.WITH_KEYS),))]


_FAULTS: Final[dict[str, tuple[float, Callable[[Random, Layout], list[Step]]]]] = {
    "change": (6, _change),
    "die": (4, _die),
    "die-at-commit": (3, _die_at_commit),
    "part": (2, _part),
    "swizzle": (2, _swizzle),
    "drop": (1, _drop),
    "weather": (2, _weather),
    "broker": (2, _broker),
    "withhold": (1.5, _withhold),
    "clock": (2, _clock),
    "bad-disk": (2, _bad_disk),
    "bit-flip": (1, _bit_flip),
    "lose": (2, _lose),
    "back": (2, _back),
    "clone-lead": (1, _clone_lead),
    "clone-device": (1, _clone_device),
    "leave": (2, _leave),
    "own": (0.5, _own),
    "circle": (0.5, _circle),
    "token": (0.5, _token),
    "rotate": (1, _rotate),
    "rogue": (2, _rogue),
    "thief": (1, _thief),
}
"""What may happen, and how often beside the others."""
