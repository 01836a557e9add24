"""What alembic runs: the migrations, on the connection and in the transaction that its caller holds."""

from alembic import context

from orchestrator.records.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
