"""A mail server that takes in what the portal sends."""

from __future__ import annotations

import asyncio
import contextlib
import email
from email.policy import default as policy
from typing import TYPE_CHECKING

from aiosmtpd.controller import Controller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

    from aiosmtpd.smtp import SMTP, Envelope, Session


class Postbox:
    """What a mail server took in. `refusal` is what it answers instead, `""` for taking it."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refusal = ""
        self.loop = asyncio.get_running_loop()
        self.came = asyncio.Semaphore(0)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's
        if self.refusal:
            return self.refusal
        assert isinstance(envelope.content, bytes)
        self.mails.append(email.message_from_bytes(envelope.content, policy=policy))
        self.loop.call_soon_threadsafe(self.came.release)  # the server has a loop and a thread of its own
        return "250 taken"


@contextlib.contextmanager
def receiving(postbox: Postbox, port: int) -> Iterator[None]:
    controller = Controller(postbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield
    finally:
        controller.stop()
