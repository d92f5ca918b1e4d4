"""An operator's own broker without any topic rule, and somebody with an account there who publishes by hand.

All that is published here comes from stock mosquitto_pub, and is looked at with stock mosquitto_sub. The tests share
one site: each finds it settled and leaves it settled.
"""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from propagator import keys
from propagator.core.registration import from_document, hash_of
from propagator.core.signing import PrivateKey, delegate
from tests.acceptance.site import Broker, Server, Site, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = "propagator/1/es-1"
RECORD = f"{ROOT}/registration"


class Hand:
    """The settled site, and what a stranger with an account at its broker can do."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.broker: Broker = site.broker()
        self.lead = site.lead(broker=self.broker)
        self.foreign = site.lead("es-2", broker=self.broker)
        self.shadow, self.other = site.shadow("as-1"), site.shadow("as-2")
        self.shadows = (self.shadow, self.other)
        self.foreign.register(site.registration("Foreign House"))
        self.lead.register(site.registration("First House"))
        site.start(self.lead, self.foreign, *self.shadows)
        for shadow in self.shadows:
            site.attach(shadow, self.lead, broker=self.broker)
        self.lead.wait_rows(as_1="in_sync", as_2="in_sync")
        self.lead.register(site.registration("Riverside House"))
        self.settle()
        self.foreign.stop()

    def settle(self) -> None:
        """Wait until all is as it should be."""
        eventually(lambda: self.broker.retained(RECORD) == self.current(), "the lead repaired its topic")
        for shadow in self.shadows:
            eventually(lambda shadow=shadow: shadow.live() is not None, "it runs")  # type: ignore[misc]
            shadow.wait_state("in_sync")
        self.lead.wait_rows(as_1="in_sync", as_2="in_sync")

    def reported(self, device: str) -> dict[str, Any]:
        """The last report of a shadow that counted."""
        (row,) = self.lead.query("SELECT report FROM member WHERE id = ?", device)
        return dict(json.loads(row["report"]))

    def issued(self) -> list[bytes]:
        """Every record that the lead ever signed, oldest first."""
        return [bytes(row["raw"]) for row in self.lead.query("SELECT raw FROM issue ORDER BY number")]

    def current(self) -> bytes:
        return self.issued()[-1]

    def signed(self, payload: bytes, *, typ: str = "record", **header: str) -> bytes:
        """Sign with the lead's own key, which nobody else should have."""
        own = keys.load_lead_keys(self.lead.state_dir)
        names: dict[str, object] = {"typ": typ, "lead": "es-1", "sender": "es-1", "delegation": own.delegation}
        return own.signing.sign({**names, **header}, payload)

    def payload(self) -> dict[str, Any]:
        """What the current record says."""
        row = self.lead.query("SELECT raw FROM issue ORDER BY number DESC LIMIT 1")[0]["raw"]
        return dict(json.loads(b64(bytes(row).split(b".")[1])))


def b64(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


@pytest.fixture(scope="module")
def hand(command: str) -> Iterator[Hand]:
    with Site(command) as site:
        yield Hand(site)


def stranger(hand: Hand) -> bytes:
    """Sign in the lead's name under another identity key."""
    identity, signing = PrivateKey.generate(), PrivateKey.generate()
    delegation = delegate(identity, signing.public, lead="es-1", seq=1)
    header: dict[str, object] = {"typ": "record", "lead": "es-1", "sender": "es-1", "delegation": delegation}
    return signing.sign(header, json.dumps(hand.payload()).encode())


def tampered(hand: Hand) -> bytes:
    head, body, signature = hand.current().split(b".")
    return b".".join((head, body, bytes([signature[0] ^ 1]) + signature[1:]))


def forked(hand: Hand) -> bytes:
    payload = hand.payload()
    payload["registration"]["site"]["name"] = "Forked House"
    payload["hash"] = hash_of(from_document(payload["registration"]))
    return hand.signed(json.dumps(payload).encode())


def foreign(hand: Hand) -> bytes:
    return bytes(hand.foreign.query("SELECT raw FROM issue ORDER BY number DESC LIMIT 1")[0]["raw"])


def twice(hand: Hand) -> bytes:
    text = json.dumps(hand.payload())
    return hand.signed(text[:-1].encode() + b', "lead": "es-1"}')


def not_a_number(hand: Hand) -> bytes:
    return hand.signed(json.dumps({**hand.payload(), "more": float("nan")}).encode())


UNREADABLE = "unreadable"
ALIKE = "\u0435s-1"  # with a Cyrillic e
PUBLISHED: dict[str, tuple[str, Callable[[Hand], bytes]]] = {
    "f04 an unsigned record": (UNREADABLE, lambda hand: json.dumps(hand.payload()).encode()),
    "f04 a tampered record": ("bad_signature", tampered),
    "f04 a record signed by a stranger in the lead's name": ("second_lead", stranger),
    "f05 an empty record": (UNREADABLE, lambda _: b""),
    "f06 a foreign record": ("wrong_lead", foreign),
    "f01 an older record": ("rollback", lambda hand: hand.issued()[-2]),
    "f49 the null record of the first day": ("rollback", lambda hand: hand.issued()[0]),
    "f09 another record of the same version": ("fork", forked),
    "f28 a signed record that does not parse": (UNREADABLE, lambda hand: hand.signed(b'{"version": "next"}')),
    "f41 an oversized record": (UNREADABLE, lambda hand: hand.current() + b"A" * 70_000),
    "f41 a deep record": (UNREADABLE, lambda hand: hand.signed(b'{"registration":' * 60 + b"1" + b"}" * 60)),
    "f41 a record with a name that stands twice": (UNREADABLE, twice),
    "f41 a record with NaN": (UNREADABLE, not_a_number),
    "f41 a record that is not UTF-8": (UNREADABLE, lambda hand: hand.signed(b'{"lead": "\xff\xfe"}')),
    "f41 garbage": (UNREADABLE, lambda _: os.urandom(2000)),
    "f41 a look-alike of the lead's id": (
        "wrong_lead",
        lambda hand: hand.signed(b"{}", lead="\u0435s-1", sender="\u0435s-1"),
    ),
}


def test_the_retained_record_is_there(hand: Hand) -> None:
    assert hand.broker.retained(RECORD) == hand.current()


@pytest.mark.parametrize(("reason", "made"), PUBLISHED.values(), ids=PUBLISHED.keys())
def test_f01_f04_f05_f06_f09_f28_f41_f49_what_is_published_by_hand_changes_nothing_and_is_named(
    hand: Hand, reason: str, made: Callable[[Hand], bytes]
) -> None:
    before = [held(shadow) for shadow in hand.shadows]
    counted = [shadow.status().refused(reason) for shadow in hand.shadows]
    issued = len(hand.issued())

    hand.broker.publish(RECORD, made(hand))

    for shadow, count in zip(hand.shadows, counted, strict=True):
        eventually(partial(refused_more, shadow, reason, count), f"{reason} is counted")
        status = shadow.status()
        assert status.refused(reason) > count
        assert status.uplink["refusal"]["reason"] == reason
        assert status.uplink["refusal"]["text"]
    hand.settle()
    assert [held(shadow) for shadow in hand.shadows] == before
    assert len(hand.issued()) == issued


def held(shadow: Server) -> list[dict[str, Any]]:
    return shadow.query("SELECT * FROM record")


def refused_more(shadow: Server, reason: str, count: int) -> bool:
    told = (shadow.live() or {})["uplink"]["refusals"]
    return any(refused["reason"] == reason and refused["count"] > count for refused in told)


def test_f28_a_record_that_verifies_but_does_not_parse_is_kept_for_people(hand: Hand) -> None:
    poison = hand.signed(b'{"version": "a poison of its own"}')
    held = hand.shadow.record()
    hand.broker.publish(RECORD, poison)
    found = eventually(
        lambda: [line for line in hand.shadow.history() if line["raw"] == poison.decode()], "it is in the history"
    )
    assert found[0]["event"] == "quarantined"
    hand.settle()
    hand.broker.publish(RECORD, poison)
    eventually(lambda: hand.shadow.status().uplink["refusal"], "it is refused again")
    hand.settle()
    assert len([line for line in hand.shadow.history() if line["raw"] == poison.decode()]) == 1
    assert hand.shadow.record() == held


def test_f01_an_older_record_is_refused_after_a_restart_too(hand: Hand) -> None:
    """With the lead away nobody repairs: the shadow is refused, and says so, until the lead is back."""
    hand.lead.stop()
    held = hand.shadow.record()
    hand.broker.publish(RECORD, hand.issued()[-2])
    hand.shadow.restart()
    hand.shadow.wait_state("refused")
    status = hand.shadow.status()
    assert (status.code, status.uplink["refusal"]["reason"]) == (1, "rollback")
    table = hand.shadow.ask("status")
    assert table.code == 1
    assert "refused, online" in table.out
    assert "refused (rollback)" in table.out
    hand.lead.start()
    hand.settle()
    assert hand.shadow.record() == held
    assert hand.shadow.status().code == 0


def test_f10_a_replayed_or_forged_report_moves_nothing(hand: Hand) -> None:
    topic = f"{ROOT}/shadows/as-1/report"
    replayed = hand.broker.retained(topic)
    assert replayed
    hand.lead.register(hand.site.registration("Replayed House"))
    hand.settle()
    row = hand.lead.status().row("as-1") or {}

    hand.broker.publish(topic, replayed)
    theirs = hand.broker.retained(f"{ROOT}/shadows/as-2/report")
    assert theirs
    hand.broker.publish(topic, theirs)  # F19: another shadow's word on this one's topic
    hand.broker.publish(f"{ROOT}/shadows/as-2/report", replayed)
    hand.broker.publish(topic, b"")
    hand.lead.register(hand.site.registration("Riverside House"))  # and this comes after all of it
    hand.settle()

    now = hand.lead.status().row("as-1") or {}
    assert (now["state"], now["cloned"], now["refusal"]) == ("in_sync", False, row["refusal"])
    assert now["stored_at"] > row["stored_at"]
    assert [row["cloned"] for row in hand.lead.query("SELECT cloned FROM member")] == [0, 0]


def test_f53_a_shadow_that_claims_a_highest_version_leaves_the_lead_unmoved(hand: Hand) -> None:
    (path,) = (hand.other.state_dir / "keys").glob("uplink-*.json")
    key = PrivateKey.from_pem(json.loads(path.read_bytes())["device_key"].encode())
    before = hand.lead.status().record["version"]
    said = hand.reported("as-2")
    seq, _, epoch, _ = before.split(".")
    version = f"{seq}.{2**53 - 1}.{epoch}.{2**53 - 1}"
    claim = {**said, "counter": said["counter"] + 1000, "version": version}
    claim["floor"] = {**said["floor"], "version": version}
    raw = key.sign({"typ": "report", "lead": "es-1", "sender": "as-2"}, json.dumps(claim).encode())

    hand.broker.publish(f"{ROOT}/shadows/as-2/report", raw)

    claimed = said["counter"]
    eventually(lambda: hand.reported("as-2")["counter"] != claimed, "the lead heard the claim")
    hand.lead.wait_rows(as_1="in_sync", as_2="in_sync")  # it asked, and the shadow proved what it really holds
    assert hand.lead.status().record["version"] == before
    hand.other.restart()
    hand.settle()
    hand.lead.register(hand.site.registration("Claimed House"))
    hand.settle()


def test_f11_a_will_of_an_old_session_after_the_new_birth_is_ignored(hand: Hand) -> None:
    topic = f"{ROOT}/shadows/as-1/presence"
    hand.shadow.stop()
    will = eventually(lambda: hand.broker.retained(topic), "it said goodbye")
    eventually(lambda: not connected(hand.lead, "as-1"), "it is not online")
    hand.shadow.start()
    hand.settle()
    eventually(lambda: connected(hand.lead, "as-1"), "it is online")

    hand.broker.publish(topic, will)
    hand.broker.publish(f"{ROOT}/shadows/as-2/presence", will)

    hand.lead.register(hand.site.registration("After the will"))
    hand.settle()
    assert connected(hand.lead, "as-1")
    assert connected(hand.lead, "as-2")


def connected(lead: Server, device: str) -> bool:
    return bool((lead.status().row(device) or {})["connected"])


def test_f57_f12_replayed_heartbeats_do_not_keep_a_silent_lead_alive(hand: Hand) -> None:
    heartbeat = hand.broker.next(f"{ROOT}/heartbeat")
    hand.lead.stop()
    hand.shadow.wait_state("stale")
    said = hand.shadow.status().uplink["last_heard"]
    for _ in range(5):
        hand.broker.publish(f"{ROOT}/heartbeat", heartbeat, retain=False)
    hand.broker.publish(f"{ROOT}/heartbeat", b"still here", retain=False)
    before = hand.shadow.status().refused(UNREADABLE)
    hand.broker.publish(f"{ROOT}/heartbeat", b"still here", retain=False)
    eventually(lambda: hand.shadow.status().refused(UNREADABLE) > before, "all of them were heard")
    status = hand.shadow.status()
    assert (status.uplink["state"], status.uplink["last_heard"]) == ("stale", said)
    hand.lead.start()
    hand.settle()


def test_f03_a_second_lead_under_the_same_key_is_named_and_ends_the_announcements(hand: Hand) -> None:
    """A heartbeat of another session that names our present one: somebody else with our key hears us."""
    report = json.loads(hand.lead.query("SELECT report FROM member WHERE id = 'as-1'")[0]["report"])
    number = int(report["lead_session"].split("-")[0])
    words = {"counter": 1, "version": None, "hash": None, "upstream": None, "period_s": 1.0}
    heard = {"session": report["lead_session"], "counter": 1}
    unechoed = {**words, "session": f"{number - 100}-zzzz", "heard": None}
    hand.broker.publish(f"{ROOT}/heartbeat", hand.signed(json.dumps(unechoed).encode(), typ="heartbeat"), retain=False)
    hand.settle()
    assert hand.lead.status().code == 0  # an old one, a replay: only counted

    echo = {**words, "session": f"{number - 99}-zzzz", "heard": heard}
    hand.broker.publish(f"{ROOT}/heartbeat", hand.signed(json.dumps(echo).encode(), typ="heartbeat"), retain=False)
    status = eventually(lambda: [status for status in [hand.lead.status()] if status.code], "it is a problem")[0]
    assert (status.downlink["state"], status.downlink["finding"]["code"]) == ("second_lead", "SECOND_LEAD")
    assert "second lead" in hand.lead.ask("status").out
    issued = len(hand.issued())
    assert "not yet published" in hand.lead.register(hand.site.registration("Not yet"))
    assert len(hand.issued()) == issued
    hand.lead.restart()  # the operator stopped the copy
    hand.settle()


def test_f27_a_broker_that_comes_back_with_nothing_is_filled_again(hand: Hand) -> None:
    hand.broker.kill()
    eventually(lambda: not (hand.lead.live() or {})["downlink"]["connected"], "the lead has no broker")
    assert hand.lead.status().json["agent"]["running"]
    hand.broker.start()
    hand.settle()
    assert hand.lead.status().code == 0


def test_f41_f58_garbage_on_every_topic_stops_no_agent_and_changes_no_state(hand: Hand) -> None:
    """It is counted, and logged once per source and minute."""
    shadows = [f"{ROOT}/shadows/{name}" for name in ("as-1", "as-2", "as-9", "as-1_attach", "as-9_attach", "es-1")]
    topics = [RECORD, f"{ROOT}/heartbeat", f"{ROOT}/nothing", "propagator/1/es-9/registration", "propagator/2"]
    topics += [f"{base}/{leaf}" for base in shadows for leaf in ("report", "presence", "request", "answer")]
    before = {server.id: len(server.lines()) for server in (hand.lead, *hand.shadows)}
    counts = [shadow.status().refused(UNREADABLE) for shadow in hand.shadows]
    records = [shadow.record() for shadow in hand.shadows]

    for topic in topics:
        hand.broker.publish_lines(topic, [f'{{"junk": {number}}}' for number in range(50)])
        hand.broker.publish(topic, os.urandom(500), retain=False)
        hand.broker.publish(topic, hand.current(), retain=topic == RECORD)  # a document, but not here

    hand.settle()
    assert [shadow.record() for shadow in hand.shadows] == records
    for shadow, count in zip(hand.shadows, counts, strict=True):
        assert shadow.status().refused(UNREADABLE) >= count + 100  # on the record, the heartbeat and the request
        lines = new_events(shadow, before)
        assert not [line for line in lines if line["event"] == "shadow.state_changed"]
        said = Counter(line["reason"] for line in lines if line["event"] == "shadow.offer_refused")
        assert all(number == 1 for number in said.values()), said
    ignored = [line for line in new_events(hand.lead, before) if line["event"].endswith(".message_ignored")]
    sources = Counter((line["event"], line.get("device"), line.get("leaf")) for line in ignored)
    assert all(number == 1 for number in sources.values()), sources
    assert {device for _, device, _ in sources} >= {"as-1", "as-2", "as-9"}
    assert ("lead.message_ignored", None, "heartbeat") in sources
    assert all(line["count"] >= 1 for line in ignored)
    assert not [line for line in new_events(hand.lead, before) if line["level"] == "error"]
    hand.lead.register(hand.site.registration("After the garbage"))
    hand.settle()


def new_events(server: Server, before: dict[str, int]) -> list[dict[str, Any]]:
    return [dict(json.loads(line)) for line in server.lines()[before[server.id] :]]


def test_f13_a_revoked_device_is_not_heard_even_where_its_account_lives_on(hand: Hand) -> None:
    """The account is the operator's: `revoke` ends the signatures at once, and says which account to remove."""
    base = f"{ROOT}/shadows/as-2"
    hand.other.stop()  # or it might say a last word in between
    assert hand.broker.retained(f"{base}/report")

    said = hand.lead.ask("revoke", "as-2")

    assert said.code == 0
    assert "remove its account" in said.err
    assert hand.lead.status().row("as-2") is None
    for leaf in ("report", "presence"):
        eventually(lambda leaf=leaf: hand.broker.retained(f"{base}/{leaf}", 1) is None, f"its {leaf} is gone")  # type: ignore[misc]
    hand.other.start()  # it speaks again, and nobody listens
    eventually(lambda: hand.broker.retained(f"{base}/report"), "it reported")
    hand.lead.register(hand.site.registration("Without as-2"))
    hand.lead.wait_rows(as_1="in_sync")
    assert hand.lead.status().row("as-2") is None
    hand.site.attach(hand.other, hand.lead, broker=hand.broker)
    hand.settle()


def test_f20_no_password_of_the_operators_broker_reaches_a_log(hand: Hand) -> None:
    logs = [server.log.read_text() for server in hand.site.servers.values()]
    for account in Broker.ACCOUNTS:
        assert not [log for log in logs if f"secret-of-{account}" in log]
