"""Runs migrations on the connection that `feiqian.index.database.migrate` gives."""

from alembic import context

from feiqian.index.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
