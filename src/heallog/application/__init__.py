"""The use cases. They take an explicit Actor and plain arguments, decide, and commit once."""
