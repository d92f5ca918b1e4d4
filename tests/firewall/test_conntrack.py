"""The kernel's table of connections in a lab: a full one, and what it says of a shadow that does not get through.

The table is the lead's own network's, really full (262,144 connections, as Linux ships it), and the agents are real.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from propagator.core.remedy import track_more
from tests.acceptance.site import eventually
from tests.firewall.case import FROM_LEAD, chain
from tests.firewall.diagnosing import diagnose, joined
from tests.firewall.lab import Lab, propagator
from tests.firewall.room import LEAD_CONFIG, PORT, SHADOW, SHADOW_CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.firewall.case import Make
    from tests.firewall.room import Place

_HERE: Final = Path(__file__).parent


@pytest.fixture
def lab(site_files: bytes) -> Iterator[Lab]:
    """A healthy lead behind a firewall as people have it: it tracks connections."""
    with Lab("routed", site_files) as made:
        made.stand_in("lead", "door", "22")
        made.serve()
        yield made


def track(lab: Lab) -> None:
    chain(lab, "lead", "input", "ct state established,related accept")


def look(lab: Lab, *options: str, privileged: bool = True) -> dict[str, Any]:
    words: tuple[str | Path, ...] = (
        propagator(),
        "diagnose",
        "--watch",
        "0.2",
        "--json",
        *options,
        "--config",
        LEAD_CONFIG,
    )
    said = lab.ask("lead", *words, user="root" if privileged else "lead")
    assert said.out, said
    return dict(said.json)


def test_a_full_table_is_told_from_a_firewall_that_drops(lab: Lab) -> None:
    """Both eat what arrives, and only one of them is opened by a rule."""
    track(lab)
    assert look(lab, privileged=False)["verdict"]["code"] == "LEAD_READY"
    lab.run("lead", sys.executable, "-I", _HERE / "fill.py")
    with lab.watching() as watched:
        found = diagnose(lab)
    both = joined(found, watched())
    assert found.alone.code == "NO_ANSWER_AT_ALL", str(found)  # it eats what comes to any port
    assert both.joint == ("LEAD_CONNTRACK_FULL", "certain"), str(both)
    assert both.lead is not None
    assert both.lead.swallowed >= 5
    told = look(lab, privileged=False)["verdict"]
    assert (told["code"], told["confidence"]) == ("LEAD_CONNTRACK_FULL", "probable")  # nobody tried meanwhile
    assert told["remedies"][1]["commands"] == list(track_more(table(lab, "max")).commands)


def test_a_full_table_is_told_where_it_keeps_the_lead_from_asking_its_device(lab: Lab) -> None:
    """It eats what the lead sends first as well: the network between is not to blame."""
    track(lab)
    lab.run("lead", sys.executable, "-I", _HERE / "fill.py")
    words = (propagator(), "diagnose", "--json", "--device", "as-1", "--at", f"{SHADOW}:8884", "--config", LEAD_CONFIG)
    said = lab.ask("lead", *words, user="lead")
    assert said.code == 1, said
    verdict = said.json["verdict"]
    assert (verdict["code"], verdict["confidence"]) == ("LEAD_CONNTRACK_FULL", "certain"), said


def table(lab: Lab, name: str) -> int:
    return int(lab.run("lead", "cat", f"/proc/sys/net/netfilter/nf_conntrack_{name}"))


def test_the_remedy_names_what_this_kernel_has_and_takes_itself_back(lab: Lab) -> None:
    """The bound is the machine's, and in a network of its own it can be read alone; so nothing but that may fail."""
    track(lab)
    limit = table(lab, "max")
    remedy = track_more(limit)
    typed(lab, remedy.commands)
    assert kept(lab) == f"net.netfilter.nf_conntrack_max = {2 * limit}\nnf_conntrack\n"
    typed(lab, remedy.undo)
    assert kept(lab) == ""
    typed(lab, remedy.look)
    assert table(lab, "max") == limit


def typed(lab: Lab, commands: Sequence[str]) -> None:
    for command in commands:
        said = lab.ask("lead", "sh", "-c", command)
        assert said.code == 0 or "permission denied on key" in said.err.lower(), (command, said)


def kept(lab: Lab) -> str:
    """What is set again at the next start."""
    return lab.run("lead", "sh", "-c", "cat /etc/sysctl.d/*propagator* /etc/modules-load.d/*propagator* || true")


def meet_and_part(lab: Lab) -> None:
    """Let the lead know from where its shadow comes, and the shadow be away."""
    shadow = lab.start("shadow", propagator(), "run", "--config", SHADOW_CONFIG, user="shadow")
    eventually(lambda: online(lab) is True, "the shadow is connected")
    shadow.stop()
    eventually(lambda: online(lab) is False, "the shadow is away")


def online(lab: Lab) -> bool:
    words = (propagator(), "status", "--json", "--config", LEAD_CONFIG)
    (row,) = lab.ask("lead", *words, user="lead").json["downlink"]["roster"]
    return bool(row["connected"])


def missing_row(told: dict[str, Any]) -> dict[str, Any]:
    (row,) = told["missing"]
    assert (row["id"], row["addresses"]) == ("as-1", [SHADOW])
    return dict(row)


def lose_the_answers(lab: Lab) -> None:
    chain(lab, "r1", "forward", f"{FROM_LEAD} drop")


def lose_the_way_back(lab: Lab) -> None:
    lab.run("lead", "ip", "route", "delete", "default")


def lose_the_first_packets(lab: Lab) -> None:
    chain(lab, "r2", "forward", f"ip saddr {SHADOW} drop")


@pytest.mark.parametrize(
    ("spoil", "handshake", "verdict"),
    [
        pytest.param(lose_the_answers, "answered", ("REPLY_LOST", "probable"), id="reply-drop"),
        pytest.param(lose_the_way_back, "unanswered", ("LEAD_NO_ROUTE_BACK", "certain"), id="reply-noroute"),
        pytest.param(lose_the_first_packets, None, ("LEAD_READY", "certain"), id="drop-r2"),
    ],
)
def test_a_missing_shadows_row_says_how_far_it_gets(
    lab: Lab, spoil: Make, handshake: str | None, verdict: tuple[str, str]
) -> None:
    """By the lead alone: the shadow has tried before anybody looked, and is silent while somebody does."""
    meet_and_part(lab)
    track(lab)
    spoil(lab)
    knock(lab, "shadow")
    come_in(lab, "r2")
    told = look(lab, "--firewall", "--source", SHADOW)
    row = missing_row(told)
    assert row["is_absent"] is (handshake is None), told
    assert (row["flow"] or {}).get("handshake") == handshake
    assert (told["verdict"]["code"], told["verdict"]["confidence"]) == verdict, told["verdict"]
    words = lab.ask("lead", propagator(), "diagnose", "--firewall", "--watch", "0", "--config", LEAD_CONFIG).out
    line = next(line for line in words.splitlines() if "Not connected" in line)
    assert {"answered": "was answered here", "unanswered": "came in", None: "no first packet"}[handshake] in line


def test_a_row_tells_anybody_of_a_half_open_connection_and_nothing_need_be_tracked(lab: Lab) -> None:
    meet_and_part(lab)
    lose_the_answers(lab)
    lab.start("shadow", propagator(), "run", "--config", SHADOW_CONFIG, user="shadow")
    half_open = f"ss -Htn state syn-recv sport = :{PORT}"
    eventually(lambda: SHADOW in lab.sh("lead", half_open), "the shadow has tried")
    told = look(lab, privileged=False)
    assert (told["verdict"]["code"], told["verdict"]["confidence"]) == ("REPLY_LOST", "probable")
    assert missing_row(told)["flow"] == {"port": PORT, "peer": SHADOW, "handshake": "answered", "age_s": 0}


def knock(lab: Lab, place: Place) -> None:
    """Begin one connection to the lead, and give it up."""
    asked = f"import socket; socket.create_connection(('10.3.0.2', {PORT}), 1.5)"
    lab.ask(place, sys.executable, "-I", "-c", asked)


def come_in(lab: Lab, place: Place) -> None:
    """Get through to the lead, and stay: while somebody does, the port is seen to be tracked."""
    asked = f"import socket, sys; staying = socket.create_connection(('10.3.0.2', {PORT})); print('in', flush=True)"
    lab.start(place, sys.executable, "-I", "-c", f"{asked}; sys.stdin.read()", stdin=True).wait_for_line("in")


def test_a_row_says_nothing_where_nothing_can_be_told(lab: Lab) -> None:
    """Without a right to read who is tracked, and without tracking: silence is no evidence."""
    meet_and_part(lab)
    assert not missing_row(look(lab, "--firewall"))["is_absent"]  # nothing is tracked here
    track(lab)
    knock(lab, "shadow")
    row = missing_row(look(lab, privileged=False))
    assert (row["flow"], row["is_absent"]) == (None, False)
