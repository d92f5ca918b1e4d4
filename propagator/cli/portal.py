"""`portal`: serve the Registration Portal, the web site where systems are registered or modified."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from propagator import config, log, notify, tasks
from propagator.cli import ending
from propagator.core.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from propagator.portal.serving import Ready

_FILE = click.Path(path_type=Path)


@click.command(
    epilog=ending(
        {
            0: "it was told to stop, and did",
            1: "another portal holds the data directory, or what it needs is not installed",
            2: "wrong settings, or a key or directory that others may read",
            3: "its database cannot be used, or its port is taken",
        },
        [
            "propagator portal --data-dir ~/portal",
            "propagator portal --config /etc/propagator/portal.toml",
            "propagator portal --listen '[::]:443' --tls-cert /etc/portal/chain.pem --tls-key /etc/portal/key.pem",
        ],
    )
)
@click.option("--config", "config_file", metavar="FILE", type=_FILE, help="Settings; config/portal.toml shows all.")
@click.option("--listen", metavar="HOST:PORT", help="Where it listens.  [default: 127.0.0.1:8080]")
@click.option(
    "--data-dir", metavar="DIR", type=_FILE, help="Its key and database.  [default: /var/lib/propagator-portal]"
)
@click.option("--database", metavar="URL", help="postgresql://USER:PASSWORD@HOST/NAME instead of a file of its own.")
@click.option("--public-url", metavar="URL", help="What people and servers enter, where that is not HOST:PORT.")
@click.option("--name", metavar="NAME", help="What the portal is called.")
@click.option("--tls-cert", metavar="FILE", type=_FILE, help="Serve https with this certificate and its chain (PEM).")
@click.option("--tls-key", metavar="FILE", type=_FILE, help="The key of the certificate (PEM, chmod 600).")
@click.option("--smtp", metavar="HOST:PORT", help="Mail server; without one nobody is told of changes.")
@click.option("--mail-from", metavar="ADDRESS", help="Sender of the mails.")
@click.option("--admin-link-file", metavar="FILE", type=_FILE, help="Write the first administrator's link there too.")
def portal(config_file: Path | None, admin_link_file: Path | None, **said: str | Path | None) -> None:
    """Serve the Registration Portal in the foreground.

    While it has no administrator, each start prints a link by which the first one is made, once and within 24 hours.
    SIGTERM or Ctrl-C ends it.
    """
    try:
        from propagator.portal import serving, settings  # noqa: PLC0415  an extra, which few need
    except ModuleNotFoundError as error:
        raise RefusedError(
            f"The portal needs packages that are not installed here ({error.name}).",
            hint="pip install 'propagator[portal]'",
        ) from error
    named = {_NAMES.get(option, option): value for option, value in said.items() if value is not None}
    beats = {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in named.items()}
    wanted = settings.load(config_file, beats)
    log.configure(wanted.log.level, wanted.log.format)
    asyncio.run(_tell_manager(partial(serving.serve, wanted, admin_link_file=admin_link_file)))


_NAMES = {"tls_cert": "tls.certificate", "tls_key": "tls.key", "smtp": "mail.server", "mail_from": "mail.sender"}


async def _tell_manager(serve: Callable[..., Coroutine[object, object, None]]) -> None:
    """Serve, and tell the service manager how that stands; the portal itself knows of none."""
    notifier = notify.Notifier(config.service())
    standing = notify.Standing(settled=False, text="starting")

    def ready(told: Ready) -> None:
        nonlocal standing
        standing = notify.Standing(settled=True, text=f"serving at {told.url}")
        _tell(told)

    async def until_it_is_told_to_stop() -> None:
        await serve(on_ready=ready, on_stopping=notifier.stopping)
        raise _EndedError

    with contextlib.suppress(_EndedError):
        await tasks.together(portal=until_it_is_told_to_stop(), notify=notifier.keep(lambda: standing))


class _EndedError(Exception):
    """The portal was told to stop, and did."""


def _tell(ready: Ready) -> None:
    click.echo(f"Registration Portal at {ready.url}, listening at {ready.listening}.", err=True)
    click.echo(f"It signs with the key {ready.thumbprint}.", err=True)
    if ready.setup_url is not None:
        click.echo(f"Make its administrator within 24 hours, with this link: {ready.setup_url}", err=True)
