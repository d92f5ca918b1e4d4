"""The device authorization grant from the device's side (RFC 8628), against an HTTP server that answers as told."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from propagator import config
from propagator.enrol import device
from propagator.enrol.device import Asked, No, Purpose
from propagator.enrol.failure import PortalError, Trouble
from propagator.enrol.way import Way
from propagator.enrol.words import Begun, Token
from tests.enrol import places
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.enrol.places import Answer, Place, Request

BEGUN = {
    "device_code": "d-1",
    "user_code": "WDJB-MJHT",
    "verification_uri": "http://127.0.0.1/device",
    "verification_uri_complete": "http://127.0.0.1/device?user_code=WDJB-MJHT",
    "expires_in": 900,
    "interval": 5,
}
TOKEN = {"access_token": "t0ken", "token_type": "Bearer", "statement": "a.b.c"}


@contextlib.contextmanager
def portal(*answers: Answer) -> Iterator[Place]:
    """A portal that gives these answers, one after the other; the last for ever."""
    left = deque(answers)

    def answer(_: Request) -> Answer:
        return left.popleft() if len(left) > 1 else left[0]

    with places.http(answer) as place:
        yield place


def error(word: str, status: int = 400) -> Answer:
    return places.said({"error": word, "error_description": f"about {word}"}, status)


class Rests:
    """Takes every pause in no time, and remembers how long it was."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def begun(**more: Any) -> Begun:
    return Begun.model_validate({**BEGUN, **more})


async def test_the_portal_says_who_it_is_and_its_thumbprint_is_reckoned_here() -> None:
    with portal(places.said({**places.about(), "thumbprint": "x" * 43, "more": 1})) as place:
        found = await device.about(place.way())
    assert (found.name, found.id, found.thumbprint) == ("Riverside Portal", "portal", places.KEY.thumbprint)


async def test_a_grant_is_asked_for_with_all_that_a_person_needs_to_know() -> None:
    with portal(places.said(BEGUN)) as place:
        found = await device.begin(
            place.way(), Asked("aB-1", "Enterprise Server", "enterprise-server", Purpose.REGISTER)
        )
    assert (found.user_code, found.interval) == ("WDJB-MJHT", 5)
    assert place.requests[0].path == "/api/device_authorization"
    assert parse_qs(place.requests[0].body.decode()) == {
        "client_id": ["propagator"],
        "system_id": ["aB-1"],
        "server_name": ["Enterprise Server"],
        "kind": ["enterprise-server"],
        "purpose": ["register"],
    }


async def test_a_grant_that_is_approved_brings_token_and_statement() -> None:
    rests = Rests()
    with portal(error("authorization_pending"), error("authorization_pending"), places.said(TOKEN)) as place:
        found = await device.wait(place.way(), begun(), rest=rests)
    assert isinstance(found, Token)
    assert (found.access_token, found.statement) == ("t0ken", "a.b.c")
    assert rests.seconds == [5, 5, 5]
    assert parse_qs(place.requests[0].body.decode()) == {
        "grant_type": ["urn:ietf:params:oauth:grant-type:device_code"],
        "device_code": ["d-1"],
        "client_id": ["propagator"],
    }


async def test_who_is_told_to_slow_down_asks_five_seconds_later_from_then_on() -> None:
    """RFC 8628 §3.5."""
    rests = Rests()
    pending, slower = error("authorization_pending"), error("slow_down")
    with portal(slower, pending, slower, pending, places.said(TOKEN)) as place:
        await device.wait(place.way(), begun(), rest=rests)
    assert rests.seconds == [5, 10, 10, 15, 15]


@pytest.mark.parametrize(("word", "ended"), [("access_denied", No.DENIED), ("expired_token", No.EXPIRED)])
async def test_a_grant_that_is_refused_or_too_old_ends_with_its_own_word(word: str, ended: No) -> None:
    with portal(error("authorization_pending"), error(word)) as place:
        assert await device.wait(place.way(), begun(), rest=Rests()) is ended


async def test_a_grant_ends_when_its_time_is_up_whatever_the_portal_says() -> None:
    with portal(error("authorization_pending")) as place:
        assert await device.wait(place.way(), begun(expires_in=1, interval=1)) is No.EXPIRED


async def test_a_portal_that_is_away_is_asked_more_slowly_until_it_is_back() -> None:
    heard: list[str] = []
    rests = Rests()
    await_s = begun(expires_in=1)
    way = Way(config.parse_portal(f"http://127.0.0.1:{free_port()}"))
    assert await device.wait(way, await_s, heard.append, _until(rests, 6)) is No.EXPIRED
    assert rests.seconds[:5] == [5, 10, 20, 40, 60]
    assert all("refuses the connection" in each for each in heard)


def _until(rests: Rests, count: int) -> Any:
    """Rest in no time, and at last for real: then the second is over."""

    async def rest(seconds: float) -> None:
        await rests(seconds)
        if len(rests.seconds) == count:
            await asyncio.sleep(1)

    return rest


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error("invalid_grant"), Trouble.REFUSED),
        (error("unheard_of"), Trouble.REFUSED),
        (places.page(), Trouble.PAGE),
        (places.page(511), Trouble.PAGE),
        (places.said({"access_token": "t0ken"}), Trouble.ANSWER),
        (places.said({**TOKEN, "access_token": "with space"}), Trouble.ANSWER),
        (places.said([]), Trouble.ANSWER),
        (places.said({"message": "no"}, 500), Trouble.ANSWER),
    ],
)
async def test_any_other_answer_ends_it(answer: Answer, kind: Trouble) -> None:
    with portal(answer) as place, pytest.raises(PortalError) as caught:
        await device.wait(place.way(), begun(), rest=Rests())
    assert caught.value.kind is kind


async def test_a_page_in_place_of_an_answer_names_who_sent_it() -> None:
    answer = places.page(403, Server="squid/5.7", Via="1.1 proxy\x1b[2J.example")
    with portal(answer) as place, pytest.raises(PortalError) as caught:
        await device.about(place.way())
    assert "squid/5.7" in str(caught.value)
    assert "\x1b" not in str(caught.value)


async def test_an_error_of_the_portal_is_told_in_its_own_words() -> None:
    with portal(error("invalid_request")) as place, pytest.raises(PortalError) as caught:
        await device.begin(place.way(), Asked("aB-1", "x", "enterprise-server", Purpose.ASSOCIATE))
    assert (caught.value.word, caught.value.kind) == ("invalid_request", Trouble.REFUSED)
    assert "about invalid_request" in str(caught.value)
