"""What one shadow costs at rest, memory and processor, beside a bare loop on the same libraries (`bare`).

RSS counts pages that processes share (the interpreter, libraries) in each of them; PSS counts a shared page in parts;
`private` is what one process more takes.
"""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import children, roster
from benchmarks.children import cpu_s
from propagator.store import connection

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from benchmarks.site import Site

GOAL_MB: Final = 45.0
REST_S: Final = 25.0
"""A little more than a heartbeat period of the benchmark's lead: each shadow hears one, as it would every minute."""

CALM_S: Final = 3.0
_PROGRAM: Final = str(Path(sys.executable).with_name("propagator"))
_ATTACHED: Final = "SELECT count(*) FROM member WHERE report ->> 'hash' = (SELECT hash FROM record) AND online"


async def measure(site: Site) -> dict[str, dict[str, float]]:
    """Run the lead, one shadow as a service would, and the bare loop as another device; look at all at rest."""
    shadow, bare = site.devices[:2]
    async with AsyncExitStack() as stack:
        pids = {}
        lead = children.program(_PROGRAM, "run", "--config", str(site.lead_config), log=site.directory / "lead.log")
        pids["lead"] = (await stack.enter_async_context(lead)).pid
        configuration = site.directory / f"{shadow}.toml"
        configuration.write_text(f'state_dir = "{site.shadow_dir(shadow)}"\n[server]\nid = "{shadow}"\n[uplink]\n')
        agent = children.program(_PROGRAM, "run", "--config", str(configuration), log=site.directory / "shadow.log")
        pids["shadow"] = (await stack.enter_async_context(agent)).pid
        await roster.until_all(site.lead_dir / connection.FILE_NAME, _ATTACHED, "", 1)
        loop = await stack.enter_async_context(_bare_loop(site, bare))
        await loop.ready()
        pids["bare"] = loop.pid
        await asyncio.sleep(CALM_S)
        before = {what: cpu_s(pid) for what, pid in pids.items()}
        await asyncio.sleep(REST_S)
        return {what: _looked_at(pid, cpu_s(pid) - before[what]) for what, pid in pids.items()}


def _bare_loop(site: Site, device: str) -> AbstractAsyncContextManager[children.Child]:
    arguments = (*site.bare_arguments(device), str(site.directory / "bare.db"))
    return children.python("benchmarks.bare", *arguments, log=site.directory / "bare.log")


def _looked_at(pid: int, used_s: float) -> dict[str, float]:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kb = {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
    private = kb["Private_Clean"] + kb["Private_Dirty"]
    megabytes = {"rss_mb": kb["Rss"], "pss_mb": kb["Pss"], "private_mb": private}
    return {
        **{what: round(size * 1024 / 1e6, 1) for what, size in megabytes.items()},
        "idle_cpu_percent": round(100 * used_s / REST_S, 2),
    }
