"""What the tests of firewalls share: the site that all labs hold a copy of."""

from __future__ import annotations

import pytest

from tests.firewall.site import make_site


@pytest.fixture(scope="session")
def site_files() -> bytes:
    """A registered lead and its attached shadow, as tar; made once."""
    return make_site()
