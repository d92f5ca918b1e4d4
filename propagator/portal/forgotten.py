"""A forgotten password: whoever names an e-mail address is answered, and then its account is mailed a one-time link.

The answer is given before anything is looked up (`asked`), and the rest is done after it (`mail_link`): neither its
words nor its time show whether there is such an account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from propagator.portal import accounts, audit, database, mail, rules, tokens
from propagator.portal.errors import Conflict
from propagator.portal.limits import Try
from propagator.portal.rules import General
from propagator.portal.tables import Account

if TYPE_CHECKING:
    from propagator.portal.context import Portal

LINK_HOURS: Final = 1

_WHY: Final = (
    "Somebody, probably you, asked for a new password for your account. Until you choose one, the old one works."
)


def asked(portal: Portal, client: str, email: str) -> str:
    """Take an address whose password was forgotten; give it as accounts have it. Looks nothing up.

    Raises Conflict where the portal sends no mail, FieldProblems, TooMany.
    """
    require_mail(portal)
    portal.limits.hold(Try.FORGOTTEN_ADDRESS, client)
    address = accounts.read_email(email)
    portal.limits.hold(Try.FORGOTTEN_ACCOUNT, tokens.hashed(address))
    return address


def require_mail(portal: Portal) -> None:
    """Refuse where a link could reach nobody. Raises Conflict."""
    if portal.settings.mail is None:
        raise Conflict("This portal sends no e-mail.", hint="ask whoever runs it for a link to a new password")


async def mail_link(portal: Portal, client: str, address: str) -> None:
    """Mail a link to the account of this address, in place of those that were asked for before.

    Where there is none, or it is closed, nobody is mailed; that it was asked for is noted in either case.
    """
    async with portal.session(client) as db, database.edit(db):
        found = await accounts.by_email(db, address)
        account = None if found is None else await database.locked(db, Account, found.id)
        if account is None or not account.active or not rules.may(account.kind, General.FORGET_PASSWORD):
            audit.note(db, None, "password_link_refused", of=None if account is None else account.email)
            return
        await accounts.end_links_within(db, account, "forgotten")
        url = accounts.link_within(
            db, "forgotten", kind=account.kind, email=account.email, account=account, hours=LINK_HOURS
        )
        mail.tell_link(db, account.email, subject="A new password", why=_WHY, url=url, hours=LINK_HOURS)
        audit.note(db, None, "password_link_asked", of=account.email)
