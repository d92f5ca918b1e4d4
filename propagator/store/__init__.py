"""The store: one SQLite file in the state directory, and the only door to it.

`connection` opens it and runs transactions. `held` keeps who this server is and its local record, `history` what
happened to that, `changes` puts content in force; `uplinks` keeps the link to a lead, `floors` how far that lead has
come. `issued` keeps the versions that a lead signed, `members` its shadows and invitations, `portals` what is held of
the Registration Portal. A function of these takes the `Tx` it works in, so that what belongs together is written
together.
"""

from propagator.store.connection import Store, Tx

__all__ = ["Store", "Tx"]
