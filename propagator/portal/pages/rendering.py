"""From what a page has to show to HTML: one environment, one frame around every page, and the two commonest pages.

Templates escape everything, and a name that a page forgot to hand over is an error, not an empty place. A page never
decides who may do what: what is offered comes from `rules`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

import jinja2
from fastapi import Request  # noqa: TC002  read by FastAPI at `remember`
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup, escape

from propagator.portal import forms, rules
from propagator.portal.errors import FieldProblems
from propagator.portal.pages import notice as notices
from propagator.portal.pages import told
from propagator.portal.rules import General
from propagator.portal.web import Visitor, portal_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

    from propagator.core.errors import PropagatorError
    from propagator.portal.errors import Conflict, TooMany
    from propagator.portal.forms import Field, Section
    from propagator.portal.pages.notice import Notice
    from propagator.portal.sessions import Visit
    from propagator.portal.tables import Account


def _marks(text: str) -> Markup:
    """Set what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped before


_CODE: Final = re.compile(r"`([^`]*)`")


def _minute(when: dt.datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}"


def _day(when: dt.datetime) -> str:
    return f"{when:%Y-%m-%d}"


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("propagator.portal"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(marks=_marks, minute=_minute, day=_day)
    made.globals.update(countries=forms.countries, kind_name=told.KINDS.__getitem__)
    parts = made.get_template("parts.html").module
    made.globals.update({name: getattr(parts, name) for name in dir(parts) if not name.startswith("_")})
    return made


_ENVIRONMENT: Final = _environment()


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPage:
    """A page that is one form. `then` says what happens next; `cancel` is where one goes who does not.

    `other` is another way, for who cannot fill it in: path and label.
    """

    title: str
    purpose: str
    action: str
    sections: tuple[Section, ...]
    go: str
    cancel: str = "/"
    then: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    danger: bool = False
    hidden: Mapping[str, str] = field(default_factory=dict)
    crumbs: tuple[tuple[str, str], ...] = ()
    other: tuple[str, str] | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """All its fields, in their order."""
        return forms.fields_of(self.sections)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmPage:
    """A page that asks before something that cannot simply be taken back. `follows` says what happens then."""

    title: str
    purpose: str
    follows: tuple[str, ...]
    action: str
    go: str
    cancel: str
    danger: bool = True
    hidden: Mapping[str, str] = field(default_factory=dict)
    crumbs: tuple[tuple[str, str], ...] = ()


def show(request: Request, visit: Visit | None, template: str, *, status: int = 200, **shown: object) -> HTMLResponse:
    """Make a page. `shown` is what its template asks for: always `title`; `problems` with the `fields` they are at."""
    who = None if visit is None else visit.account
    notice = notices.take(request)
    frame = {
        "problems": {},
        "fields": (),
        "crumbs": (),
        **shown,
        "who": who,
        "asked": hasattr(request.state, "visit"),
        "here": request.url.path,
        "places": () if who is None else _places(who, request.url.path),
        "portal_name": portal_of(request).settings.name,
        "flash": "" if notice is None else notice.value,
        "csrf": lambda: _csrf("" if visit is None else visit.csrf),
    }
    page = HTMLResponse(_ENVIRONMENT.get_template(template).render(frame), status)
    if notice is not None:
        notices.clear(page)
    return page


def _csrf(token: str) -> Markup:
    return Markup('<input type="hidden" name="csrf" value="{}">').format(token)


def _places(who: Account, here: str) -> tuple[dict[str, object], ...]:
    """List the pages that the account may use, and which of them this one is or belongs to."""
    listed = [
        ("/systems", "Register or Modify a system" if rules.may(who.kind, General.REGISTER) else "Registered systems")
    ]
    if rules.may(who.kind, General.ANSWER_DEVICE):
        listed += [("/associate", "System Association page"), ("/device", "Connect a server")]
    if rules.may(who.kind, General.KEEP_ACCOUNTS):
        listed.append(("/accounts", "Accounts"))
    return tuple(
        {"href": href, "label": label, "current": here == href or here.startswith(f"{href}/")} for href, label in listed
    )


def form(
    request: Request,
    visit: Visit | None,
    page: FormPage,
    *,
    problems: Mapping[str, str] | None = None,
    status: int = 200,
) -> HTMLResponse:
    """Make a page that is one form; with `problems` (path of the field to sentence) it comes back filled in."""
    return show(
        request,
        visit,
        "form.html",
        title=page.title,
        crumbs=page.crumbs,
        form=page,
        fields=page.fields,
        problems=problems or {},
        status=status,
    )


def refused(request: Request, visit: Visit | None, page: FormPage, error: FieldProblems | Conflict) -> HTMLResponse:
    """Give a form back with what is wrong beside its fields. A conflict that is at no field is raised again."""
    return form(request, visit, page, problems=problems_of(error, page.fields), status=error.status)


def held_up(request: Request, visit: Visit | None, page: FormPage, error: TooMany) -> HTMLResponse:
    """Give a form back that was sent too often; what to wait for stands at its first field."""
    told = form(request, visit, page, problems={page.fields[0].path: sentence_of(error)}, status=error.status)
    told.headers["Retry-After"] = str(error.retry_after_s)
    return told


def problems_of(error: FieldProblems | Conflict, fields: Iterable[Field]) -> dict[str, str]:
    """Say what a service refused as sentences at the fields of a form. Raises the conflict that is at none."""
    if isinstance(error, FieldProblems):
        return forms.beside(error.problems, fields)
    if not error.field:
        raise error
    return {error.field: sentence_of(error)}


def sentence_of(error: PropagatorError) -> str:
    """Tell a cause with the one thing to try."""
    hint = f" {error.hint[:1].upper()}{error.hint[1:]}." if error.hint else ""
    return f"{error}{hint}"


def confirm(request: Request, visit: Visit, page: ConfirmPage) -> HTMLResponse:
    """Make a page that asks before something that cannot simply be taken back."""
    return show(request, visit, "confirm.html", title=page.title, crumbs=page.crumbs, ask=page)


def go(href: str, notice: Notice | None = None) -> RedirectResponse:
    """Lead on after something was done (303), with a notice for the next page."""
    response = RedirectResponse(href, 303)
    if notice is not None:
        notice.put(response)
    return response


async def remember(request: Request, visit: Visitor) -> None:
    """Remember who asks, for the page that tells an error."""
    request.state.visit = visit


def remembered(request: Request) -> Visit | None:
    """Give who asked, as far as it was found out."""
    return cast("Visit | None", getattr(request.state, "visit", None))
