"""A small soak: 20 real shadows, one wave in which each kind of fault is tried, a flood at the port, and no loss."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

from tests.acceptance.site import _processes_in
from tests.soak.faults import Pace
from tests.soak.hostile import KINDS, OF_A_DEVICE
from tests.soak.run import SETTLE_S, Soak

SHADOWS = 20
PACE = Pace(wave_s=20.0, strikes=12, change_s=2.0)


def test_f05_f27_f32_f38_f42_f46_a_small_soak_loses_nothing() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert most >= 4096, f"this test needs 4096 descriptors, and may have {most}: ulimit -n"
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sk-") as folder:
        soak = Soak(Path(folder), SHADOWS, 46, said.append)

        done = soak.run_alone(0, PACE)

        assert not list(_processes_in(Path(folder))), "left behind"
    assert not done.losses, said
    assert done.waves == 1
    assert done.changes > 0
    assert not done.changes_refused
    assert done.overwrites_held > SHADOWS
    assert done.faults.keys() | done.faults_that_found_nobody.keys() >= {*soak.kinds, "link cut", "link stalled"}
    assert done.hostile.keys() == {*KINDS, OF_A_DEVICE}
    assert max(done.convergence_s) < SETTLE_S
