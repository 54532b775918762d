"""Whatever stands in a body about accounts, sessions and members: it is refused in order, and nothing breaks."""

import json
from typing import Any

import httpx
import pytest

from .clinic import Clinic
from .operations import OPERATIONS, PUBLIC, example_of, listed

ODD: list[Any] = [None, True, 7, -1, 1e400, [], {}, [[]], "", " ", "\x00", "\ud800", "x" * 5_000, "\u202e", "💊" * 40]
"""JSON has no infinity; Python writes one all the same."""

OF_PEOPLE = ("/v1/auth", "/v1/me", "/v1/sessions", "/v1/practice")
NAMES = [*PUBLIC, *(name for name, one in OPERATIONS.items() if one.path.startswith(OF_PEOPLE))]


def bodies(example: dict[str, Any]) -> list[Any]:
    """The example with each field odd, missing or joined by one that nobody knows; and no object at all."""
    one_odd = [{**example, name: odd} for name in example for odd in ODD]
    one_missing = [{key: value for key, value in example.items() if key != name} for name in example]
    return [*one_odd, *one_missing, {**example, "admin": True}, *ODD]


@pytest.mark.parametrize("name", NAMES)
async def test_an_odd_body_is_refused_in_order(clinic: Clinic, document: dict[str, Any], name: str) -> None:
    said = listed(document)[name]
    if "requestBody" not in said:
        return  # Then none is read.
    address = said["path"].replace("{", "").replace("}", "")
    example = example_of(said)
    if "email" in example:
        # Every body counts for the address that it names.
        example = {**example, "email": f"odd-{clinic.email}"}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {clinic.token}"}
    for body in bodies(example):
        sent = json.dumps(body)
        answer: httpx.Response = await clinic.client.request(said["method"], address, content=sent, headers=headers)
        assert answer.status_code < 500, (sent[:200], answer.text)
        assert str(answer.status_code) in said["responses"], (sent[:200], answer.text)
        if answer.is_error:
            assert answer.json()["success"] is False
