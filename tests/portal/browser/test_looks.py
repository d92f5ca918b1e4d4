"""Every page on a tablet and on a telephone, in both schemes, and on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx

from tests.portal.browser.serving import ask

if TYPE_CHECKING:
    from tests.portal.browser.people import Person, Street

_LONG: Final = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft & Söhne " * 2


async def test_no_page_scrolls_sideways_on_a_tablet_or_a_telephone(street: Street) -> None:
    ada = await street.administrator()
    irene = await street.integrator(ada)
    long = {"Site or building name": _LONG, "Site company name": _LONG, "Street address": _LONG}
    number = await irene.register("S" * 64, **long)
    async with httpx.AsyncClient(base_url=f"{street.served.url}/api") as server:
        asked = await ask(server, "W" * 64, "register")
    at = f"/systems/{number}"
    device = f"/device?user_code={asked['user_code']}"
    choice = f"/associate/system?system_id={'T' * 64}"
    await _fits(ada, "/", "/systems", at, f"{at}/free?slot=integrator", f"{at}/withdraw")
    await _fits(ada, "/accounts", "/accounts/new", "/accounts/2")
    await _fits(irene, "/", "/systems", "/systems/new", at, f"{at}/edit", f"{at}/consents", f"{at}/warranty")
    await _fits(irene, f"{at}/invite", "/associate", choice, "/device", device, "/account", "/key", "/nowhere")
    await irene.open(f"{at}/code")
    await irene.press("Issue a Registration code")
    await irene.fits("code")
    await irene.press("Log off")
    await _fits(irene, "/", "/log-on", "/forgotten-password")


async def _fits(person: Person, *paths: str) -> None:
    for path in paths:
        await person.open(path)
        await person.fits(path.partition("?")[0].strip("/").replace("/", "-") or "home")


async def test_a_registration_code_fits_two_pages_of_paper(street: Street) -> None:
    irene = await street.integrator(await street.administrator())
    number = await irene.register("SYS-1")
    await irene.open(f"/systems/{number}/code")
    await irene.press("Issue a Registration code")
    paper = await irene.page.pdf(format="A4")
    assert paper.count(b"/Type /Page\n") in {1, 2}
    await irene.page.set_viewport_size({"width": 680, "height": 960})
    await irene.page.emulate_media(media="print")
    await irene.picture("paper")
