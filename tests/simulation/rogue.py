"""Somebody with valid credentials at a broker whose rules hold nobody back: what he publishes (F04, F58).

Without keys he repeats, crosses and empties what others said. With a device's key he speaks as that device, with the
lead's signing key as that lead: then nothing but versions and `rotate` help (F02).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from propagator import keys, settings
from propagator.core.signing import Envelope, open_envelope
from propagator.core.version import LIMIT
from propagator.core.wire import Leaf, Topic, Typ
from tests.simulation.ending import current
from tests.unit.builders import Lead, key, registered, unb64

if TYPE_CHECKING:
    from random import Random

    from propagator.core.difference import JsonObject
    from propagator.core.signing import PrivateKey
    from tests.memory_bus import MemoryBroker, Said
    from tests.simulation.machine import Machine
    from tests.simulation.world import World

WITHOUT_KEYS: Final = (
    "replays",
    "an old record",
    "old reports",
    "old presences",
    "old heartbeats",
    "another record",
    "another identity",
    "crossed",
    "junk",
    "a shadow's junk",
    "nothing",
)
_LEAVES: Final = {
    "an old record": Leaf.REGISTRATION,
    "old reports": Leaf.REPORT,
    "old presences": Leaf.PRESENCE,
    "old heartbeats": Leaf.HEARTBEAT,
}
WITH_KEYS: Final = ("a shadow's claim", "the highest version", "a fork", "poison")


class Word(NamedTuple):
    """One publish of his; `account` is whose credentials he uses, or nobody's, whom no rule holds back."""

    topic: str
    payload: bytes
    retain: bool = True
    account: str = ""


class Rogue:
    """He has listened to every broker of this world since it began."""

    def __init__(self, world: World, chance: Random) -> None:
        self._world = world
        self._chance = chance

    def words(self, broker: MemoryBroker, lead: Machine, what: str) -> list[Word]:
        """Give what he says at the broker of a lead; nothing where he lacks what he would need."""
        if what in WITH_KEYS:
            return self._with_a_key(broker, lead, what)
        own = [said for said in broker.wire if said.payload and said.account]
        topics = sorted({said.topic for said in own})
        match what:
            case "replays":
                return self._some(own)
            case "an old record" | "old reports" | "old presences" | "old heartbeats":
                return self._some([said for said in own if said.topic.endswith(f"/{_LEAVES[what]}")])
            case "another record":
                return [Word(_record(lead), self._chance.choice(self._foreign()))] if self._foreign() else []
            case "another identity":
                return self._another_identity(lead)
            case "crossed":
                return [Word(topic, self._chance.choice(own).payload) for topic in topics]
            case "junk":
                return [Word(topic, self._chance.randbytes(64)) for topic in topics]
            case "a shadow's junk":
                return [Word(topic, self._chance.randbytes(64), account=self._shadow_of(lead)) for topic in topics]
            case _:
                return [Word(topic, b"") for topic in topics]

    def _with_a_key(self, broker: MemoryBroker, lead: Machine, what: str) -> list[Word]:
        if what == "a shadow's claim":
            return self._claim(broker, lead)
        issue = current(lead)
        if issue is None:
            return []
        stolen = keys.load_lead_keys(lead.directory)
        payload = json.loads(unb64(bytes(issue["raw"]).split(b".")[1]))
        content = registered(f"the thief's house {self._chance.randrange(10_000)}")
        payload |= {"registration": json.loads(content.canonical), "hash": content.hash}
        if what == "the highest version":
            payload["version"] = f"{stolen.seq}.{LIMIT}.zzzzzz.{LIMIT}"
            payload["lives"] = [{"generation": LIMIT, "epoch": "zzzzzz", "revision": LIMIT}]
        if what == "poison":
            payload = {"of": "a newer program"}
        raw = _signed(stolen.signing, Typ.RECORD, lead.id, lead.id, payload, delegation=stolen.delegation)
        self._world.watch.stolen(raw, content)
        return [Word(_record(lead), raw)]

    def _claim(self, broker: MemoryBroker, lead: Machine) -> list[Word]:
        """Let a shadow's own key claim the highest version, in the next report of its session (F53)."""
        name = self._shadow_of(lead)
        topic = str(Topic(lead.id, Leaf.REPORT, name))
        heard = (open_envelope(said.payload) for said in reversed(broker.wire) if said.topic == topic)
        last = next((word for word in heard if isinstance(word, Envelope) and word.typ == Typ.REPORT), None)
        link = settings.load_uplink(self._world.machines[name].directory / settings.UPLINK_FILE) if name else None
        if last is None or link is None:
            return []
        own = keys.load_credentials(link.credential_file)
        payload = json.loads(last.payload)
        highest = f"1.{LIMIT}.zzzzzz.{LIMIT}"
        payload |= {
            "counter": payload["counter"] + 1,
            "version": highest,
            "floor": {"version": highest, "hash": "0" * 64},
        }
        return [Word(topic, _signed(own.key, Typ.REPORT, lead.id, name, payload), account=own.username)]

    def _another_identity(self, lead: Machine) -> list[Word]:
        """Speak as a second lead of this id: a record and heartbeats under an identity key that nobody pinned (F03)."""
        stranger = Lead(lead.id, key("stranger identity"), key("stranger signing"))
        beat: JsonObject = {
            "session": "9999999999-zzzzzz",
            "counter": 1,
            "version": None,
            "hash": None,
            "heard": None,
        }
        beats: JsonObject = {**beat, "upstream": None, "period_s": 60.0}
        raw = _signed(stranger.signing, Typ.HEARTBEAT, lead.id, lead.id, beats, delegation=stranger.delegation)
        record = stranger.signed(f"1.{LIMIT}.zzzz.{LIMIT}", registered("a stranger's house"))
        return [Word(_record(lead), record), Word(str(Topic(lead.id, Leaf.HEARTBEAT)), raw, retain=False)]

    def _foreign(self) -> list[bytes]:
        wires = (broker.wire for broker in self._world.network.brokers.values())
        return sorted({said.payload for wire in wires for said in wire if said.topic.endswith("/registration")})

    def _shadow_of(self, lead: Machine) -> str:
        shadows = [name for name, its in self._world.following.items() if its == lead.id]
        return self._chance.choice(shadows) if shadows else ""

    def _some(self, found: list[Said]) -> list[Word]:
        some = self._chance.sample(found, min(12, len(found)))
        return [Word(said.topic, said.payload, said.retain) for said in some]


def _record(lead: Machine) -> str:
    return str(Topic(lead.id, Leaf.REGISTRATION))


def _signed(
    by: PrivateKey, typ: Typ, lead: str, sender: str, payload: JsonObject, *, delegation: str | None = None
) -> bytes:
    """Sign any payload, as `signing.seal` signs a document."""
    carried = {} if delegation is None else {"delegation": delegation}
    return by.sign({"typ": typ, "lead": lead, "sender": sender, **carried}, json.dumps(payload).encode())
