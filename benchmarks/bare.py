"""The bare loop: what aiomqtt, aiosqlite and pydantic take without anything of ours, connected and waiting.

    python -m benchmarks.bare PORT CREDENTIALS CA DATABASE

Nothing of Propagator is imported here; CREDENTIALS is a shadow's account file.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from pathlib import Path

import aiomqtt
import aiosqlite
from pydantic import BaseModel


class Record(BaseModel):
    """What a record would be read into."""

    registration: dict[str, object]


async def _wait(port: str, account: dict[str, str], ca: str, database_path: str) -> None:
    Record(registration={})
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    client = aiomqtt.Client(
        "127.0.0.1",
        int(port),
        username=account["username"],
        password=account["password"],
        identifier=account["username"],
        tls_context=context,
    )
    async with aiosqlite.connect(database_path) as database, client:
        await database.execute("PRAGMA journal_mode = WAL")
        await database.execute("PRAGMA synchronous = FULL")
        await database.execute("CREATE TABLE record (body BLOB)")
        await client.subscribe("propagator/1/+/registration", qos=1)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        async for message in client.messages:
            await database.execute("INSERT INTO record VALUES (?)", (message.payload,))
            await database.commit()


if __name__ == "__main__":
    given_port, credentials, *rest = sys.argv[1:]
    asyncio.run(_wait(given_port, json.loads(Path(credentials).read_text()), *rest))
