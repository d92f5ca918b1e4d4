"""The status of one server: the one value that table, JSON, page and gauges show (DESIGN §9).

`status.read` makes it from the store and the live agent. The fields stand in the order of the JSON, which is only ever
added to. What is wrong is told by cause: `problems` names each once, and a cause hides its symptoms; `verdict` and the
exit code follow from it alone. Time is handed in. Free of pydantic, because `status` has to answer at once.

The values stand here, what is wrong with them in `problems`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from propagator.core import moment
from propagator.core.state import DownlinkState, State
from propagator.core.view import problems as found

if TYPE_CHECKING:
    import datetime as dt

    from propagator.core.difference import JsonObject, JsonValue
    from propagator.core.view.problems import Problem

SCHEMA: Final = 1

Verdict: TypeAlias = Literal["ok", "problem", "unknown"]


@dataclass(frozen=True, slots=True)
class Server:
    """Who this server is."""

    id: str
    name: str
    kind: str
    system_id: str


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent on this machine. `running` is its lock; `answers`: its control socket said how the links stand."""

    running: bool
    pid: int | None = None
    since: str | None = None
    version: str | None = None
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Hop:
    """One server that the record came through."""

    id: str
    identity: str


@dataclass(frozen=True, slots=True)
class Record:
    """The registration in force. `hash` is that of the stored text; `damaged`: it was another one when stored (F35)."""

    origin: str
    pending: bool
    version: str | None
    hash: str
    stored_at: str
    path: tuple[Hop, ...]
    detached_from: JsonObject | None
    registration: JsonObject | None
    lead: str | None
    damaged: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last offer that was refused."""

    reason: str
    text: str
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Refusals:
    """How often one reason was met."""

    reason: str
    count: int
    text: str
    last_at: str


@dataclass(frozen=True, slots=True)
class Uplink:
    """The link to the lead; `unattached` while it is only wanted. `upstream` is how a lead that is a relay stands."""

    lead: str | None
    address: str | None
    connected: bool
    state: State
    since: str | None
    last_heard: str | None
    refusal: Refusal | None
    finding: JsonObject | None
    lead_name: str | None = None
    refusals: tuple[Refusals, ...] = ()
    upstream: JsonObject | None = None
    period_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """One shadow. `connected` and `state` are two facts (R19); `since`: how long at most it has been in this state.

    `reported` is the state in the shadow's own last word, which may be a newer program's; None: it never reported.
    `invite` is the command that invites it anew, where it does not trust the identity key that this lead has now.
    `addresses` are those that a cloned shadow's account connected from last; None: not cloned, or the broker, an
    external one, or the agent does not say.
    """

    id: str
    name: str
    kind: str
    state: State
    version: str | None
    hash: str | None
    stored_at: str | None
    connected: bool
    last_heard: str | None
    refusal: Refusal | None
    finding: JsonObject | None
    upstream: JsonObject | None
    downlink: JsonObject | None
    cloned: bool
    since: str | None
    reported: str | None = None
    invite: str | None = None
    addresses: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Downlink:
    """The link to the shadows. `version`, `hash` and `issued_at` are of what the lead announces.

    `keys_gone`: what the lead signs with is not in its place (who may not look there cannot tell, and says false).
    `connections_at_cap`: the broker turns connections away, it has too many; None: an external one, or no agent says.
    """

    broker: str
    state: DownlinkState
    finding: JsonObject | None
    listening: tuple[str, ...]
    shadows: dict[str, int] = field(init=False)
    roster: tuple[Row, ...]
    version: str | None = None
    hash: str | None = None
    issued_at: str | None = None
    lead_connected: bool = False
    heartbeat_s: float = 60.0
    keys_gone: bool = False
    connections_at_cap: bool | None = None

    def __post_init__(self) -> None:
        states = [row.state for row in self.roster]
        counts = {state.value: states.count(state) for state in _COUNTED}
        object.__setattr__(self, "shadows", {"total": len(states), **counts})


_FIRST: Final = (State.IN_SYNC, State.BEHIND, State.REFUSED, State.UNREACHABLE)
_COUNTED: Final = (*_FIRST, *(state for state in State if state not in {*_FIRST, State.UNATTACHED}))


@dataclass(frozen=True, slots=True)
class Portal:
    """The Registration Portal that this server trusts; `url` None: it was never asked online.

    `system` is its number of the registered system, `edition` of what was taken from it last; `finding` says why its
    last answer was none.
    """

    url: str | None
    name: str
    key: str
    system: str | None
    edition: int | None
    asked_at: str | None
    answered_at: str | None
    finding: JsonObject | None


@dataclass(frozen=True, slots=True)
class Status:
    """How one server stood at the time `at`."""

    server: Server
    role: str
    agent: Agent
    record: Record | None
    uplink: Uplink | None
    downlink: Downlink | None
    at: dt.datetime
    portal: Portal | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong, in the order of cause; empty if all is well."""
        return tuple(found.of(self))

    @property
    def verdict(self) -> Verdict:
        """The whole in one word."""
        return "problem" if self.problems else "ok"

    @property
    def exit_code(self) -> int:
        """What `propagator status` ends with: 0 ok, 1 a problem (DESIGN §9)."""
        return 1 if self.problems else 0

    def as_json(self) -> JsonObject:
        """The JSON of DESIGN §9."""
        fields = {part.name: plain(getattr(self, part.name)) for part in dataclasses.fields(self) if part.name != "at"}
        problems: list[JsonValue] = [{"text": problem.text, "hint": problem.hint} for problem in self.problems]
        head: JsonObject = {"schema": SCHEMA, "verdict": self.verdict}
        return {**head, **fields, "problems": problems, "at": moment.write(self.at)}


def cannot_tell(text: str, hint: str, at: dt.datetime) -> JsonObject:
    """Give the JSON where no state can be read."""
    nothing: JsonObject = dict.fromkeys(("server", "role", "agent", "record", "uplink", "downlink", "portal"))
    problems: list[JsonValue] = [{"text": text, "hint": hint}]
    return {"schema": SCHEMA, "verdict": "unknown", **nothing, "problems": problems, "at": moment.write(at)}


def plain(value: object) -> JsonValue:
    """Turn a value of this module into JSON: its fields in their order."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return cast("JsonValue", value)


@dataclass(frozen=True, slots=True)
class Held:
    """A version and its hash: what a lead announces, what a shadow reached, what it holds."""

    version: str
    hash: str | None


def row_state(
    reported: State | None, floor: Held | None, held: Held | None, *, confirmed: bool, current: Held | None
) -> State:
    """Say how a shadow is shown: what it reported (None: never), held against what its lead announces now.

    `floor` is the highest record that it accepted, `held` the one in force. A lead without a record (`current` None)
    cannot say of anybody that it is in sync.
    """
    if reported is None:
        return State.UNKNOWN
    if not confirmed:
        return State.UNCONFIRMED
    if reported in {State.DETACHED, State.REFUSED}:
        return reported
    if current is None:
        return State.UNKNOWN if reported is State.IN_SYNC else reported
    if (floor or held) != current:
        return State.BEHIND
    if reported is State.IN_SYNC and held != current:
        return State.BEHIND
    return reported
