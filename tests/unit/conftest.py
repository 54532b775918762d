"""How hard Hypothesis looks: `HEALLOG_HYPOTHESIS=soak` looks long and by chance, the default looks the same each time."""

import os

from hypothesis import settings

settings.register_profile("default", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("soak", max_examples=20_000, deadline=None)
settings.load_profile(os.environ.get("HEALLOG_HYPOTHESIS", "default"))
