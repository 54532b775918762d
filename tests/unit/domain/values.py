"""JSON values and times, as Hypothesis draws them."""

from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from heallog.domain.fields import MAX_SAFE_INTEGER

NUMBERS = st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | st.floats(allow_nan=False, allow_infinity=False)


def json_values(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
    )


JSON = json_values(st.none() | st.booleans() | NUMBERS | st.text(), st.text())
ANY_TEXT = st.text(st.characters(exclude_categories=[]))
"""Half surrogates, control characters and all."""
WILD = json_values(
    st.none() | st.booleans() | NUMBERS | ANY_TEXT | st.floats() | st.integers() | st.just(10**4000), ANY_TEXT
)
"""Whatever `decode` may let through, and more."""


OFFSETS = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-14 * 60, 14 * 60))
TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=OFFSETS)  # noqa: DTZ001 - the zone is drawn
