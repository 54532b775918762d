"""How hard Hypothesis looks: the default looks the same way each time, `HEALLOG_HYPOTHESIS=soak` long and by chance."""

import os

from hypothesis import settings

settings.register_profile("default", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("soak", max_examples=20_000, deadline=None)
settings.load_profile(os.environ.get("HEALLOG_HYPOTHESIS", "default"))
