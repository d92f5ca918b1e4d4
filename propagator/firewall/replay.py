"""The second opinion: the captured rules, loaded into a scratch network namespace, and a real SYN sent at them.

The kernel evaluates there what `core.ruleset` only reckons, without a packet on the host's own network: a child in
namespaces of its own (`scratch`) makes an interface of the same name, loads the copy, and ends; nothing is left. As
root, or by a user namespace where the system allows one. Blind to BPF, to what sets and conntrack hold by now, to
matches on users and sockets, and to what nft's listing leaves out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator.core.ruleset import Judgement, Outcome

if TYPE_CHECKING:
    from propagator.core.ruleset import Connection
    from propagator.firewall.state import FirewallState

DEADLINE_S: Final = 10.0
"""The whole child, loading large sets included; the packets themselves have 0.3 s, and 2.3 s to be called dropped."""

ANSWER_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the kernel did. `cannot_tell` has a reason in `text`: no permission, a rule that does not load."""

    outcome: Outcome
    text: str = ""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What both say together. `agreed` is None if one of them could not tell."""

    outcome: Outcome
    agreed: bool | None
    text: str


def replay(state: FirewallState, connection: Connection) -> Replayed:
    """Load the copy and send one SYN from the connection's source. Returns within DEADLINE_S."""
    program = shutil.which("unshare", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        return Replayed(Outcome.CANNOT_TELL, "unshare is not installed")
    spaces = ["--net", "--mount", "--kill-child=KILL", "--fork", "--pid"]
    if os.geteuid() != 0:
        spaces += ["--user", "--map-root-user"]
    # -P: the directory that this runs in is no place to import from, least of all as root.
    child = [sys.executable, "-P", "-m", "propagator.firewall.scratch"]
    try:
        done = subprocess.run(
            [program, *spaces, *child],
            input=json.dumps(_asked(state, connection)).encode(),
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Replayed(Outcome.CANNOT_TELL, f"the copy did not answer within {DEADLINE_S:g} s")
    return _answer(done.stdout[:ANSWER_LIMIT], done.stderr.decode("utf-8", "replace"))


def _asked(state: FirewallState, connection: Connection) -> dict[str, object]:
    return {
        "texts": dict(state.listing.texts),
        "interfaces": list(state.interfaces),
        "saddr": str(connection.saddr),
        "daddr": str(connection.daddr),
        "sport": connection.sport,
        "dport": connection.dport,
        "iif": connection.iif or "eth0",
    }


def _answer(raw: bytes, said: str) -> Replayed:
    try:
        told = json.loads(raw)
    except ValueError:
        told = None
    match told:
        case {"outcome": str(outcome), "text": str(text)} if outcome in {one.value for one in Outcome}:
            return Replayed(Outcome(outcome), text)
        case _:
            last = said.strip().splitlines()[-1:] or ["it said nothing"]
            return Replayed(Outcome.CANNOT_TELL, f"the scratch namespace could not be made: {last[0][:200]}")


def second_opinion(reckoned: Judgement, replayed: Replayed) -> Opinion:
    """Join the two: where they agree it is sure, where they differ nobody can tell, and one alone is only probable."""
    first, second = reckoned.outcome, replayed.outcome
    if Outcome.CANNOT_TELL not in {first, second}:
        if first is second:
            return Opinion(first, agreed=True, text=f"the rules say {first}, and the kernel does so on a copy of them")
        return Opinion(
            Outcome.CANNOT_TELL, agreed=False, text=f"the rules say {first}, but on a copy of them the kernel: {second}"
        )
    if first is not Outcome.CANNOT_TELL:
        return Opinion(
            first, agreed=None, text=f"the rules say {first}; on a copy it could not be tried: {replayed.text}"
        )
    if second is Outcome.CANNOT_TELL:
        return Opinion(second, agreed=None, text=f"neither the rules nor a copy of them can tell: {replayed.text}")
    unread = ", ".join(reckoned.unread) or "more than one end is open"
    if second in reckoned.possible:
        return Opinion(second, agreed=None, text=f"the kernel, on a copy: {second}; not known from the rules: {unread}")
    return Opinion(
        Outcome.CANNOT_TELL, agreed=False, text=f"on a copy the kernel: {second}, which the rules do not leave open"
    )
