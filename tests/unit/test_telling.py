"""What is said of a verdict beside its sentences: what more rights would add."""

from __future__ import annotations

import pytest

from propagator.core.diagnosis import Code, Confidence, Verdict
from propagator.diagnose.telling import as_root

FAR = {"gateway": "10.1.0.1", "port": "8883"}


@pytest.mark.parametrize("code", [Code.PORT_CLOSED, Code.REJECTED_ON_PATH, Code.INTERCEPTED, Code.TLS_INTERCEPTED])
def test_a_ttl_that_was_not_checked_is_said_to_be_and_how_root_sees_it(code: Code) -> None:
    verdict = Verdict(code, Confidence.PROBABLE, "because", "10.3.0.2", FAR)
    assert as_root(verdict) == (
        "tcpdump -nvi any 'host 10.3.0.2 and port 8883', meanwhile: the TTL of the answer, which was not checked"
    )


@pytest.mark.parametrize(
    "verdict",
    [
        pytest.param(
            Verdict(Code.PORT_CLOSED, Confidence.PROBABLE, "because", "10.3.0.2", {**FAR, "ttl": "62"}),
            id="the TTL is known",
        ),
        pytest.param(
            Verdict(Code.PORT_CLOSED, Confidence.PROBABLE, "because", "10.3.0.2", {"port": "8883"}),
            id="nobody stands between",
        ),
        pytest.param(Verdict(Code.INTERCEPTED, Confidence.CERTAIN, "because", "10.3.0.2", FAR), id="it is certain"),
        pytest.param(Verdict(Code.NO_ANSWER_AT_ALL, Confidence.POSSIBLE, "because", "10.3.0.2", FAR), id="no answer"),
    ],
)
def test_root_adds_nothing_where(verdict: Verdict) -> None:
    assert as_root(verdict) == ""
