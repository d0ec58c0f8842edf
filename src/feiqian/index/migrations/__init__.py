"""Alembic migrations of the index's core tables."""
