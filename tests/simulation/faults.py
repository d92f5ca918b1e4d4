"""The schedule of one seed: which servers there are, and what happens to them, step by step.

Everything is drawn before anything runs, so a schedule can be printed, cut (`--only`) and read: one line a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE_EVERY: Final = 12
"""Every how-manieth seed is one of up to 20 servers; the others have 3 to 7."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens: `wait_s` after the step before it. `args` are what its verb needs."""

    wait_s: float
    verb: str
    who: str
    args: tuple[str | float, ...] = ()

    def __str__(self) -> str:
        return " ".join([f"+{self.wait_s:6.2f} s  {self.verb:<16} {self.who:<6}", *map(_plain, self.args)]).rstrip()


@dataclass
class Layout:
    """Who is there: each server's lead (None: it stands at the top), and which leads use an external broker."""

    lead_of: dict[str, str | None] = field(default_factory=dict)
    external: set[str] = field(default_factory=set)

    @property
    def leads(self) -> list[str]:
        return [server for server in self.lead_of if server.startswith(("ec", "es"))]

    @property
    def tops(self) -> list[str]:
        return [server for server in self.leads if self.lead_of[server] is None]

    @property
    def relays(self) -> list[str]:
        return [server for server in self.leads if self.lead_of[server] is not None]

    @property
    def devices(self) -> list[str]:
        return [server for server in self.lead_of if server.startswith("as")]

    def role(self, server: str) -> str:
        if server.startswith("as"):
            return "shadow"
        return "lead" if self.lead_of[server] is None else "relay"

    def below(self, lead: str) -> list[str]:
        return [server for server, its in self.lead_of.items() if its == lead]

    def __str__(self) -> str:
        trees = [f"{lead}{'*' if lead in self.external else ''} > {', '.join(self.below(lead))}" for lead in self.leads]
        return "; ".join(trees)


@dataclass(frozen=True)
class Schedule:
    """The whole of one seed."""

    seed: int
    layout: Layout
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        head = f"seed {self.seed}, {len(self.layout.lead_of)} servers: {self.layout}  (*: external broker, no rules)"
        return "\n".join([head, *(f"{number:4}  {step}" for number, step in enumerate(self.steps, 1))])


def draw(seed: int, servers: int | None = None) -> Schedule:
    """Draw the schedule of a seed; `servers` overrides how many there are."""
    rng = Random(f"{seed}/schedule")
    is_large = seed % LARGE_EVERY == LARGE_EVERY - 1
    count = servers or (rng.randint(12, 20) if is_large else rng.randint(3, 7))
    layout = _layout(rng, count)
    steps: list[Step] = []
    for _ in range(rng.randint(4, 8) if is_large else rng.randint(3, 9)):
        verb = rng.choices(list(_FAULTS), [weight for weight, _ in _FAULTS.values()])[0]
        steps += _FAULTS[verb][1](rng, layout)
    return Schedule(seed, layout, tuple(steps))


def _layout(rng: Random, count: int) -> Layout:
    layout = Layout()
    if count >= 4 and rng.random() < 0.6:
        tops = ["ec-1", "ec-2"] if count >= 5 and rng.random() < 0.4 else ["ec-1"]
        relays = [f"es-{number}" for number in range(1, 1 + max(1, (count - len(tops)) // 5))]
        layout.lead_of.update(dict.fromkeys(tops))
        for relay in relays:
            layout.lead_of[relay] = rng.choice(tops)
        leads = relays
    else:
        layout.lead_of["es-1"] = None
        leads = ["es-1"]
    for number in range(1, count - len(layout.lead_of) + 1):
        layout.lead_of[f"as-{number}"] = (
            leads[(number - 1) % len(leads)] if rng.random() < 0.8 else rng.choice(layout.leads)
        )
    layout.external = {lead for lead in layout.leads if rng.random() < 0.3}
    return layout


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


def _full_disk(rng: Random, layout: Layout) -> list[Step]:
    who = rng.choice(list(layout.lead_of))
    full = [Step(_wait(rng), "fill-disk", who), _register(rng, layout, _wait(rng))]
    if rng.random() < 0.3:
        full += [Step(_wait(rng), "kill", who), Step(_wait(rng), "start", who)]
    return [*full, Step(_outage(rng), "free-disk", who)]


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


def _rotate(rng: Random, layout: Layout) -> list[Step]:
    return [Step(_wait(rng), "rotate", _lead_of_some(rng, layout))]


def _rogue(rng: Random, layout: Layout) -> list[Step]:
    what = ("replays", "replays", "an old record", "another record", "crossed", "junk", "nothing")
    return [
        Step(_wait(rng), "rogue", _lead_of_some(rng, layout), (rng.choice(what),)) for _ in range(rng.randint(1, 3))
    ]


_FAULTS: Final[dict[str, tuple[float, Callable[[Random, Layout], list[Step]]]]] = {
    "change": (6, _change),
    "die": (4, _die),
    "die-at-commit": (3, _die_at_commit),
    "part": (3, _part),
    "drop": (1, _drop),
    "weather": (2, _weather),
    "broker": (2, _broker),
    "clock": (2, _clock),
    "full-disk": (1, _full_disk),
    "lose": (2, _lose),
    "back": (2, _back),
    "clone-lead": (1, _clone_lead),
    "clone-device": (1, _clone_device),
    "leave": (2, _leave),
    "rotate": (1, _rotate),
    "rogue": (2, _rogue),
}
"""What may happen, and how often beside the others."""


def _plain(arg: str | float) -> str:
    return f"{arg:g}" if isinstance(arg, float) else str(arg)
