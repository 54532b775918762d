"""HTTP v1: one router per capability."""
