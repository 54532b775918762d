"""Sync: what devices pull, what they push, and the batch in which a push is done."""
