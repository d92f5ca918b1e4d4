"""The capture and the replay of a packet filter: what the helper writes is what is there, and a copy behaves alike."""

from __future__ import annotations

import json
import stat
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from propagator.core.remedy import Tool
from propagator.core.ruleset import Connection, Listing, Outcome, Source, judge
from propagator.firewall import replay, state
from propagator.firewall.charge import in_charge
from propagator.firewall.state import FirewallState
from tests.firewall.pair import DEVICE, FAR4, FAR6, NEAR4, NEAR6, PORT, Pair, listing, start_firewalld
from tests.firewall.test_rules import SETUPS, Setup, agree, loaded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.firewall.pair import Address

HERE: Final = Path(__file__).resolve().parents[2]
INTERFACES: Final = ("lo", DEVICE)
A, D, R = Outcome.ACCEPT, Outcome.DROP, Outcome.REJECT


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as made:
        yield made


def connection(source: Address) -> Connection:
    return Connection(source, NEAR4 if source.version == 4 else NEAR6, PORT, DEVICE)


def captured(pair: Pair) -> FirewallState:
    """Run the helper there, as root with the unit's two capabilities, and read what it wrote."""
    bounds = ("setpriv", "--bounding-set=-all,+net_admin,+net_raw", "--inh-caps=-all", "--no-new-privs")
    pair.near.do(*bounds, "sh", "-c", f"cd {HERE} && exec {sys.executable} -m propagator.firewall")
    path = Path(f"/proc/{pair.near.pid}/root/run/propagator/fwstate.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    read = state.read(time.time(), path)
    assert isinstance(read, FirewallState)
    return read


def test_a_copy_of_a_random_rule_set_does_what_its_reading_says(pair: Pair) -> None:
    """A refusal that the filter's own output eats is silence; `agree` knows. Nothing is judged twice in vain."""
    random = Random(77)
    wrong = []
    for draw in loaded(pair, random, 10):
        taken = FirewallState(listing(pair.near, Source.NFT_JSON, Source.NFT_TEXT), INTERFACES, None, "", 0.0)
        for source in (FAR4, FAR6):
            said = judge(taken.listing, connection(source))
            seen = replay.replay(taken, connection(source))
            if seen.outcome is Outcome.CANNOT_TELL or not (agree(said, seen.outcome, draw) or said.caveats):
                wrong.append(f"{source}: {seen} on a copy, judged {said}\n{draw.text}")
    assert wrong == []


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
def test_the_helper_captures_and_a_copy_of_it_behaves_alike(pair: Pair, setup: Setup) -> None:
    pair.near.shell(setup.script)
    taken = captured(pair)
    assert tuple(replay.replay(taken, connection(source)).outcome for source in (FAR4, FAR6)) == setup.expected
    assert tuple(judge(taken.listing, connection(source)).outcome for source in (FAR4, FAR6)) == setup.expected
    expected = {"ufw": Tool.UFW, "nft": Tool.NFT}.get(setup.name.split()[0])
    if expected is not None and D in setup.expected:
        rule = judge(taken.listing, connection(FAR4)).rule
        assert in_charge(taken, rule) is expected


def test_firewalld_is_captured_copied_and_known(pair: Pair) -> None:
    start_firewalld(pair.near)
    taken = captured(pair)
    opinions = [
        replay.second_opinion(judge(taken.listing, connection(source)), replay.replay(taken, connection(source)))
        for source in (FAR4, FAR6)
    ]
    assert [(one.outcome, one.agreed) for one in opinions] == [(R, True), (R, True)]
    assert in_charge(taken) is Tool.FIREWALLD


def test_a_copy_answers_in_time_and_leaves_nothing(pair: Pair) -> None:
    pair.near.shell(f"nft 'table ip f {{ chain i {{ type filter hook input priority 0; ip saddr {FAR4} drop; }}; }}'")
    taken = captured(pair)
    before = namespaces()
    begun_s = time.monotonic()
    assert replay.replay(taken, connection(FAR6)).outcome is A
    quick_s = time.monotonic() - begun_s
    assert replay.replay(taken, connection(FAR4)).outcome is D
    assert quick_s < 3  # 0.3 s on a machine that has nothing else to do
    assert time.monotonic() - begun_s - quick_s < 6  # 2.3 s
    assert namespaces() == before


def namespaces() -> set[str]:
    """Give the network namespaces of our own children."""
    children = [
        child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return {str(Path(f"/proc/{child}/ns/net").readlink()) for child in children}


def test_a_copy_is_made_by_nobody_in_a_user_namespace(pair: Pair) -> None:
    """Where the system allows user namespaces, no privilege is needed once the rules are captured."""
    pair.near.shell(f"nft 'table ip f {{ chain i {{ type filter hook input priority 0; ip saddr {FAR4} reject; }}; }}'")
    open_to_all(pair, {Path(place).resolve().parts[1] for place in (sys.executable, sys.base_prefix, HERE)})
    script = (
        "import json, sys; from ipaddress import ip_address as a\n"
        "from propagator.core.ruleset import Connection, Listing; from propagator.firewall import replay, state\n"
        "taken = state.FirewallState(Listing(json.load(sys.stdin)), (), None, '', 0.0)\n"
        f"print(replay.replay(taken, Connection(a('{FAR4}'), a('{NEAR4}'), {PORT}, '{DEVICE}')))"
    )
    nobody = ("--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--no-new-privs")
    texts = json.dumps(dict(listing(pair.near).texts))
    said = pair.near.do("setpriv", *nobody, sys.executable, "-c", script, stdin=texts)
    assert "Outcome.REJECT" in said


def open_to_all(pair: Pair, folders: set[str]) -> None:
    """Let every user of the namespace through: Python may lie in the home of whoever runs the tests."""
    for number, folder in enumerate(folders):
        layer = f"/run/layer{number}"
        overlay = f"lowerdir=/{folder},upperdir={layer}/up,workdir={layer}/work"
        pair.near.do("mkdir", "-p", f"{layer}/up", f"{layer}/work")
        pair.near.do("mount", "-t", "overlay", "overlay", "-o", overlay, f"/{folder}")
        pair.near.do("chmod", "o+x", f"/{folder}")


def test_what_does_not_load_is_told() -> None:
    listed = Listing({Source.NFT_TEXT: "table ip f {\n\tchain i {\n\t\tnonsense\n\t}\n}\n"})
    seen = replay.replay(FirewallState(listed, INTERFACES, None, "", 0.0), connection(FAR4))
    assert seen.outcome is Outcome.CANNOT_TELL
    assert seen.text.startswith("nft: ")


def test_an_interface_that_cannot_be_made_is_told() -> None:
    seen = replay.replay(FirewallState(Listing(), (), None, "", 0.0), Connection(FAR4, NEAR4, PORT, "lo"))
    assert seen == replay.Replayed(Outcome.CANNOT_TELL, "packets that come in by 'lo' cannot be made")


def test_the_helper_takes_no_arguments(pair: Pair) -> None:
    said = pair.near.run("sh", "-c", f"cd {HERE} && exec {sys.executable} -m propagator.firewall --output=/etc/passwd")
    assert (said.returncode, said.stdout) == (1, "")
    assert "takes no arguments" in said.stderr
