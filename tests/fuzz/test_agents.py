"""Whole agents under fuzzed input (F41, F46, F58): they answer or hang up, go on, and hold what they held."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import itertools
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from propagator import control
from propagator.control import SOCKET_FILE, desk
from propagator.core import moment, signing
from propagator.core.signing import Envelope
from propagator.core.wire import Leaf, Request, Topic, Typ
from tests.acceptance.site import eventually
from tests.fuzz import grammar
from tests.fuzz.runs import CORPUS, drawn, tried
from tests.fuzz.targets import Target, signed, topics
from tests.fuzz.victims import ROOT, Stolen, Victims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.acceptance.site import Server

PEER_S: Final = 20.0
"""For one answer: the agent gives a peer five seconds, and the machine may be busy."""


def said_to(peer: socket.socket, *parts: bytes) -> bytes:
    """Say this, close our half, and hear all that comes until the other side hangs up."""
    heard = b""
    try:
        for part in parts:
            peer.sendall(part)
        peer.shutdown(socket.SHUT_WR)
    except OSError as error:  # whoever hears enough may hang up on the rest, before we close our half or after
        if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
            raise
    with contextlib.suppress(ConnectionError):
        while part := peer.recv(65536):
            heard += part
    return heard


# The control socket.

OPS: Final[Sequence[dict[str, object]]] = (
    {"op": "live", "whence": "192.0.2.1"},
    {"op": "poke"},
    {"op": "associate", "version": "1.4.k7f3q2.41"},
    {"op": "enter", "statement": "a.b.c", "origin": "code", "trusted": None},
    {"op": "take-over"},
    {"op": "evidence", "record": "a.b.c"},
    {"op": "probe", "device": "as-9"},
)


def lines() -> st.SearchStrategy[bytes]:
    """Give requests that are spoiled, half of them, two at once, and bytes that are none."""
    request = grammar.documents(OPS)
    whole = request.map(lambda raw: raw + b"\n")
    return st.one_of(whole, whole, whole, request, whole.map(lambda raw: raw + raw), st.binary(max_size=200))


SILENT: Final = desk.PEERS_LIMIT + 16
"""Peers: the kernel's queue holds as many again as are attended to."""


def control_of(server: Server) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(server.state_dir / SOCKET_FILE))  # waits for a place in the kernel's queue
    peer.settimeout(PEER_S)
    return peer


def controlled(server: Server, raw: bytes) -> None:
    """Hold an answer to being one line with an object that says how it went, and the agent to having foreseen it."""
    with control_of(server) as peer:
        heard = said_to(peer, raw)
    assert heard.endswith(b"\n"), heard
    assert heard.count(b"\n") == 1, heard
    answer = json.loads(heard)
    assert isinstance(answer["ok"], bool), answer
    assert answer["ok"] or "internal" not in answer["error"], answer


def test_f41_the_control_socket_answers_any_line_and_the_agents_go_on(victims: Victims) -> None:
    before = victims.held()
    for server, examples in zip(victims.agents, (120, 60), strict=True):
        for path in sorted((CORPUS / "control").iterdir()):
            controlled(server, path.read_bytes())

        def answers(raw: bytes, server: Server = server) -> None:
            controlled(server, raw)

        tried(Target("control", lines(), answers, examples), examples)()
    victims.stand()
    assert victims.held() == before


def test_f41_silent_half_and_endless_lines_keep_nobody_from_the_control_socket(victims: Victims) -> None:
    """More peers than are attended to at once, and they stay: each has five seconds, and then the next one comes."""
    with contextlib.ExitStack() as stack:
        for number, server in itertools.product(range(SILENT), victims.agents):
            peer = stack.enter_context(control_of(server))
            peer.sendall(b'{"op":"live"'[: number % 13])
        for server in victims.agents:
            controlled(server, b'{"op":"live"}\n')
    for server in victims.agents:
        with control_of(server) as peer:
            heard = said_to(peer, b"x" * 64 * 1024, b"y" * 64 * 1024, b"\n")
        assert not heard or json.loads(heard)["ok"] is False
    victims.stand()


def test_f41_a_burst_of_questions_is_answered_to_the_last(victims: Victims) -> None:
    """More at once than the kernel's queue holds; none is told that there is no agent."""
    places = [server.state_dir for server in victims.agents for _ in range(3 * desk.PEERS_LIMIT)]
    with ThreadPoolExecutor(len(places)) as pool:
        answers = list(pool.map(lambda place: control.ask(place, "live", PEER_S), places))
    assert all(answer is not None and answer["ok"] for answer in answers)


# The reverse probe.


def probed(port: int, line: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PEER_S) as peer:
        return said_to(peer, line, b"\n")


def asked(at: str, nonce: str = "bm9uY2Utbm9uY2Utbm9uY2U") -> Request:
    return Request(nonce=nonce, wanted="probe", at=at)


def test_f16_f41_the_reverse_probe_answers_nobody_but_its_lead(victims: Victims) -> None:
    own = victims.lead_keys()
    stale = own.seal(Typ.REQUEST, asked("2026-01-01T00:00:00.000Z"))
    port = victims.probe_port

    def silent(line: bytes) -> None:
        line = line.replace(b"\n", b" ")
        heard = probed(port, line)
        assert not heard or line.rstrip() == stale, (line, heard)  # to a stranger not a word

    for path in sorted((CORPUS / "probe").iterdir()):
        silent(path.read_bytes())
    tried(Target("probe", signed([stale]) | st.binary(max_size=5000), silent, 60), 60)()

    refused = json.loads(probed(port, stale))
    assert refused["refused"] == "clock"
    fresh = own.seal(Typ.REQUEST, asked(moment.write(dt.datetime.now(dt.UTC)), nonce="ZnJlc2gtZnJlc2gtZnJlc2g"))
    told = signing.open_envelope(probed(port, fresh).rstrip())
    assert isinstance(told, Envelope)
    assert told.verified
    assert (told.typ, told.sender) == ("report", "as-1")
    assert json.loads(probed(port, fresh))["refused"] == "replayed"
    victims.stand()


def test_f41_the_reverse_probe_takes_spoiled_requests_of_its_lead_for_none(victims: Victims) -> None:
    """Signed by the lead's own key: no member may be missing, of another type, or said twice."""
    own = victims.lead_keys()
    header: dict[str, object] = {"typ": "request", "lead": "es-1", "sender": "es-1", "delegation": own.delegation}
    request = json.loads(asked("2026-01-01T00:00:00.000Z").model_dump_json())

    def answers(payload: bytes) -> None:
        heard = probed(victims.probe_port, own.signing.sign(header, payload))
        assert not heard or json.loads(heard)["refused"] == "clock", (payload, heard)

    tried(Target("request", grammar.documents([request]), answers, 60), 60)()
    victims.stand()


# The topics.

MESSAGES: Final = 400
ROUNDS: Final = 3
GROWTH_MIB: Final = 16.0
"""What the last rounds may add to an agent's memory: all that grows with a sender's words is bounded (F58)."""

ACCOUNTS: Final = ("as-1", "as-2", "as-9", "es-1", "as-1_attach", "as-9_attach", "as-1_probe", "as-9_probe")
LEAVES: Final = (Leaf.REPORT, Leaf.PRESENCE, Leaf.REQUEST, Leaf.ANSWER)
TOPICS: Final = (
    *([f"{ROOT}/registration", f"{ROOT}/heartbeat"] * 4),
    *(str(Topic("es-1", leaf, account)) for account in ACCOUNTS for leaf in LEAVES),
)


async def overheard(victims: Victims) -> dict[str, bytes]:
    """Hear one document of each of the site's topics, as anybody with an account there can."""
    wanted = {f"{ROOT}/registration", f"{ROOT}/heartbeat"}
    wanted |= {str(Topic("es-1", leaf, "as-1")) for leaf in LEAVES[:2]}
    heard: dict[str, bytes] = {}
    async with victims.hand().connect() as session:
        await session.subscribe("propagator/#")
        async for message in session.messages():
            if message.payload:
                heard[message.topic] = message.payload
            if wanted <= heard.keys():
                break
    return heard


def documents_of(victims: Victims, heard: dict[str, bytes]) -> st.SearchStrategy[bytes]:
    """Give spoiled documents of the site: unsigned, of a stranger, and under the device key that the fuzzer has."""
    stolen = victims.stolen()
    said = json.loads(_payload(heard[f"{ROOT}/shadows/as-1/report"]))
    ahead = {"session": "9007199254740991-zzzz", "version": "9007199254740991.1.zzzz.9007199254740991"}
    reports = [_thieves(stolen, {**said, **more}) for more in ({}, ahead)]
    return st.one_of(signed(sorted(heard.values()), stolen.keys), signed(reports, stolen.keys), st.binary(max_size=300))


def _thieves(stolen: Stolen, report: dict[str, object]) -> bytes:
    """Say this as the device whose key the fuzzer has."""
    header: dict[str, object] = {"typ": "report", "lead": "es-1", "sender": "as-2"}
    return stolen.key.sign(header, json.dumps(report).encode())


def _payload(raw: bytes) -> bytes:
    opened = signing.open_envelope(raw)
    assert isinstance(opened, Envelope)
    return opened.payload


async def test_f41_f46_f58_fuzzed_topics_move_no_record_no_floor_and_no_row_of_the_roster(victims: Victims) -> None:
    heard = await overheard(victims)
    before, issued = victims.held(), victims.lead.query("SELECT count(*) AS n FROM issue")
    payloads = drawn(documents_of(victims, heard), MESSAGES)
    strange = [raw.decode() for raw in drawn(topics(), 60) if raw.decode().isprintable() and not set(b"+#") & set(raw)]
    places = [*TOPICS, *strange]
    memory: list[dict[str, float]] = []
    async with victims.hand().connect() as session:
        for turn in range(ROUNDS):
            for number, payload in enumerate(payloads):
                place = places[(7 * number + turn) % len(places)]
                await session.publish(place, payload, retain=number % 5 == 0)
            memory.append({server.id: victims.memory_mib(server) for server in victims.agents})
        for place in (f"{ROOT}/shadows/{account}/{leaf}" for account in ACCOUNTS[2:] for leaf in LEAVES):
            await session.publish(place, b"", retain=True)
    victims.settle()
    victims.stand()
    assert victims.held() == before
    assert victims.lead.query("SELECT count(*) AS n FROM issue") == issued
    for server in victims.agents:
        assert memory[-1][server.id] - memory[0][server.id] < GROWTH_MIB, memory

    victims.lead.register(victims.site.registration("After the fuzz"))
    eventually(
        lambda: victims.shadow.record()["registration"]["site"]["name"] == "After the fuzz", "what the lead says counts"
    )
    victims.settle()
