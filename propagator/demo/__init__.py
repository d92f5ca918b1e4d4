"""The demonstration: a lead with its broker and some shadows on this machine, over real TLS, and what they do.

Everything is done by the commands that a person would type, as processes of their own; what is told is read from the
stores. `run` plays it in a fresh directory, `stop` ends one that was kept.

Law: `processes` knows pids and nothing of servers; `site` knows the servers and nothing of the story; `changes` watches
one change arrive; `story` is what happens, in order; `telling` is how it looks; `playing` sees that nothing stays.
"""

from propagator.demo.playing import StoppedError, run, stop
from propagator.demo.story import Figures
from propagator.demo.telling import Teller

__all__ = ["Figures", "StoppedError", "Teller", "run", "stop"]
