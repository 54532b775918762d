"""Everything in memory: the same promises as PostgreSQL for one process, and gone with it."""
