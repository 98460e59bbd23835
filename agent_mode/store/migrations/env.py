"""Alembic's entry: runs on the connection, and in the transaction, that `agent_mode.store.migrate` opened."""

from alembic import context

from agent_mode.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite can alter little in place; batch mode copies the table instead.
    render_as_batch=True,
)
context.run_migrations()
