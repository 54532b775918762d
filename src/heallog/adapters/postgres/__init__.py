"""PostgreSQL 15 to 18: SQLAlchemy describes, asyncpg executes."""
