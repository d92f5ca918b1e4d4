"""The API against its own description: schemathesis asks what it allows, and what it does not."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.portal.world import open_world, served, settings_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHECKS: Final = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES: Final = 60


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A portal in a thread of its own: schemathesis asks without a loop."""
    began, told, ending = threading.Event(), [], []

    async def serve() -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        ending.append(lambda: loop.call_soon_threadsafe(end.set))
        async with open_world(settings_in(tmp_path), scale=1e6) as world, served(world) as client:
            told.append(str(client.base_url))
            began.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="portal under test")
    thread.start()
    assert began.wait(30)
    yield told[0]
    ending[0]()
    thread.join(30)


def test_every_answer_is_as_described(url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/api/openapi.json")
    seen: dict[str, set[int]] = {}
    for operation in schema.get_all_operations():
        assert isinstance(operation, Ok), operation
        ready = operation.ok()
        allowed = ready.as_strategy()
        not_allowed = ready.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

        @hypothesis.seed(7)
        @hypothesis.settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=allowed | not_allowed)
        def ask(case: schemathesis.Case[Any]) -> None:
            answer = case.call_and_validate(checks=CHECKS)
            seen.setdefault(case.operation.path, set()).add(answer.status_code)

        ask()
    assert seen["/api/device_authorization"] >= {200, 400}
    assert seen["/api/token"] >= {400}
    assert seen["/api/registration"] >= {401}
    assert len(seen) == 5
