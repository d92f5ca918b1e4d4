"""What all tests share: hypothesis judges behaviour here, and not how busy the machine is."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background: what is started here would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
