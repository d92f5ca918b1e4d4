"""What alembic runs for each command: the revisions, on the connection and in the transaction that it was handed."""

from __future__ import annotations

from alembic import context

from propagator.portal.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
context.run_migrations()
