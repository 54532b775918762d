"""What the log shows of events: all of what they carry, for that is ids and counts by construction."""

import typing
from dataclasses import fields

import pytest

from heallog.adapters.logs import ALLOWED
from heallog.domain.events import Event


@pytest.mark.parametrize("event", typing.get_args(Event))
def test_every_field_of_an_event_reaches_the_log(event: type) -> None:
    assert {field.name for field in fields(event)} <= ALLOWED
