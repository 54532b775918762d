"""How hard Hypothesis looks: the default looks the same way each time, `HEALLOG_HYPOTHESIS=soak` long and by chance."""

import os

from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail.
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("default", max_examples=100, derandomize=True, **PATIENT)
settings.register_profile("soak", max_examples=20_000, **PATIENT)
settings.load_profile(os.environ.get("HEALLOG_HYPOTHESIS", "default"))
