"""How fast the machine is just now: a fixed piece of work, as JSON-bound as a server's, in milliseconds.

A shared machine lends its cores to others: the same work takes up to twice as long at times, for minutes. An absolute
rate means something only beside the pace at which it was measured.
"""

import json
import statistics
import time

_SAID = [{"id": f"r-{number}", "fields": {"dose": number, "note": str(number) * 20}} for number in range(500)]


def pace(tries: int = 5) -> float:
    """The median of so many tries."""
    return round(statistics.median(_once() for _ in range(tries)), 1)


def _once() -> float:
    started = time.perf_counter()
    for _ in range(20):
        [dict(one) for one in json.loads(json.dumps(_SAID))]
    return (time.perf_counter() - started) * 1000
