"""What a thief or a backup holds: the signing key (F02), a copied device (F18), an old image (F52).

The broker is an operator's, without topic rules: nothing but signatures and versions stands in the way. The tests share
one site; each finds it settled and leaves it settled.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from propagator import keys
from propagator.core.registration import from_document, hash_of
from tests.acceptance.site import Server, Site, eventually
from tests.faults.clock import A_DAY_AGO, Clock
from tests.unit.builders import unb64

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = "propagator/1/es-1/registration"
HIGHEST = 2**53 - 1


class Field:
    """A lead and two shadows on a broker without rules."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.broker = site.broker()
        self.lead = site.lead(broker=self.broker)
        self.shadow, self.other = site.shadow("as-1"), site.shadow("as-2")
        self.lead.register(site.registration("Riverside House"))
        site.start(self.lead, self.shadow, self.other)
        for shadow in (self.shadow, self.other):
            site.attach(shadow, self.lead, broker=self.broker)
        self.settle()

    def settle(self) -> None:
        self.lead.wait_rows(as_1="in_sync", as_2="in_sync")
        for shadow in (self.shadow, self.other):
            shadow.wait_state("in_sync")

    def change(self, name: str) -> None:
        """Register, and wait until everybody follows."""
        self.lead.register(self.site.registration(name))
        eventually(lambda: {name_of(self.shadow), name_of(self.other)} == {name}, f"every shadow holds {name}")
        self.settle()

    def cloned(self, device: str) -> bool:
        return bool((self.lead.status().row(device) or {})["cloned"])


@pytest.fixture(scope="module")
def field(command: str) -> Iterator[Field]:
    with Site(command) as site:
        yield Field(site)


def name_of(server: Server) -> str:
    return str(server.record()["registration"]["site"]["name"])


def version_of(server: Server) -> str:
    return str(server.record()["version"])


def test_f52_a_restored_image_of_a_shadow_counts_again_within_one_request(field: Field) -> None:
    """All that it says is older than what the lead heard: its first answer to a request counts all the same."""
    other, image = field.other, field.site.directory / "image"
    other.stop()
    shutil.copytree(other.state_dir, image)
    other.start()
    for number in range(2):
        field.change(f"House {number}")
        other.restart()  # sessions and counters that the image has never heard of
    other.stop()
    shutil.rmtree(other.state_dir)
    image.rename(other.state_dir)
    Clock(other, A_DAY_AGO)  # the clock came with it: else a session, which begins with the time, would be a later one

    other.start()

    field.settle()
    assert version_of(other) == version_of(field.lead)
    assert not field.cloned("as-2")
    field.change("After the image")


def test_f18_a_copy_of_a_device_is_named_and_the_lead_goes_on(field: Field) -> None:
    """Two machines with one account take the connection from each other, and both answer."""
    copy = Server(field.site, "as-2", "shadow", "copy")
    field.other.stop()
    shutil.copytree(field.other.state_dir, copy.state_dir)
    text = field.other.config.read_text()
    copy.config.write_text(text.replace(str(field.other.state_dir), str(copy.state_dir)))
    field.site.servers["copy"] = copy
    field.other.launch()
    copy.launch()

    eventually(lambda: field.cloned("as-2"), "the copy is named")

    assert field.lead.status().code == 1
    assert "two machines" in field.lead.ask("status").out
    assert "as-2 (from where, only its external broker knows)" in field.lead.status().problems
    field.lead.register(field.site.registration("With a copy"))
    field.lead.wait_rows(as_1="in_sync")
    assert name_of(field.shadow) == "With a copy"
    copy.kill()
    field.other.restart()
    field.site.attach(field.other, field.lead, "--again", broker=field.broker)  # a new key: the copy's is worth nothing
    field.change("Without the copy")
    assert not field.cloned("as-2")
    assert field.lead.status().code == 0


def test_f02_a_stolen_signing_key_that_signed_the_highest_version_is_outbid_by_rotate(field: Field) -> None:
    """Also where the shadow was off, and where it took the forged record over."""
    stolen = forged(field)
    field.other.stop()
    field.broker.publish(RECORD, stolen)
    eventually(lambda: name_of(field.shadow) == "Stolen House", "who cannot know better believes the key")
    status = eventually(lambda: [one for one in [field.lead.status()] if one.code], "the lead says so")[0]
    assert "propagator rotate" in status.problems
    assert name_of(field.lead) != "Stolen House"

    said = field.lead.do("rotate")

    assert "The signing key is renewed: version 2.1." in said
    true = name_of(field.lead)
    eventually(lambda: name_of(field.shadow) == true, "the shadow comes back to its lead")
    field.other.start()
    field.settle()
    assert {version_of(field.shadow), version_of(field.other)} == {version_of(field.lead)}
    assert field.shadow.history()[0]["before"]["site"]["name"] == "Stolen House"

    field.broker.publish(RECORD, stolen)  # the thief goes on with his key
    for shadow in (field.shadow, field.other):
        eventually(lambda shadow=shadow: shadow.status().refused("revoked_key"), "it is refused")  # type: ignore[misc]
    field.settle()
    assert {name_of(field.shadow), name_of(field.other), name_of(field.lead)} == {true}
    field.change("After the thief")
    assert field.lead.status().code == 0


def forged(field: Field) -> bytes:
    """Sign the highest version there is with the lead's key of today."""
    own = keys.load_lead_keys(field.lead.state_dir)
    raw = field.broker.retained(RECORD)
    assert raw is not None
    payload: dict[str, Any] = json.loads(unb64(raw.split(b".")[1]))
    version = f"1.{HIGHEST}.zzzzzz.{HIGHEST}"
    payload["registration"]["site"]["name"] = "Stolen House"
    payload["hash"] = hash_of(from_document(payload["registration"]))
    payload["version"] = version
    payload["lives"] = [{**payload["lives"][-1], "generation": HIGHEST, "epoch": "zzzzzz", "revision": HIGHEST}]
    header: dict[str, object] = {"typ": "record", "lead": "es-1", "sender": "es-1", "delegation": own.delegation}
    return own.signing.sign(header, json.dumps(payload).encode())
