"""Runs the migrations over the connection of :func:`.database.migrate`; Alembic executes this file."""

from alembic import context

from {{ cookiecutter.package_name }}.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes few properties of a table in place; Alembic copies the table instead.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
