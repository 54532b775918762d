"""Refusals: a stable code for programs, a message for people, and where it went wrong."""

from itertools import pairwise

import pytest

from heallog.domain.errors import DomainError, FieldError, HeldBack, InvalidFields, NotFound, VersionConflict


def test_one_broken_field_is_named_in_the_message_and_in_the_field() -> None:
    refusal = InvalidFields([FieldError("birth_date", "date", "is not a date")])
    assert refusal.message == "birth_date: is not a date"
    assert refusal.field == "birth_date"
    assert refusal.code == "INVALID_FIELDS"
    assert refusal.context == {
        "errors": [{"field": "birth_date", "code": "date", "message": "is not a date"}],
    }


def test_the_first_of_several_speaks_and_counts_the_others() -> None:
    broken = [FieldError(f"tags.{index}", "type", "must be a string") for index in range(3)]
    refusal = InvalidFields(broken)
    assert str(refusal) == refusal.message == "tags.0: must be a string (and 2 more)"
    assert refusal.field == "tags.0"
    assert refusal.errors == tuple(broken)
    assert [error["field"] for error in refusal.context["errors"]] == ["tags.0", "tags.1", "tags.2"]


@pytest.mark.parametrize(
    ("count", "message"), [(1, "the body must be an object"), (2, "the body must be an object (and 1 more)")]
)
def test_an_error_of_the_whole_body_has_no_field(count: int, message: str) -> None:
    refusal = InvalidFields([FieldError("", "type", "the body must be an object")] * count)
    assert refusal.message == message
    assert refusal.field is None


def test_the_context_is_a_copy() -> None:
    context = {"version": 3}
    refusal = NotFound("there is no version 4", field="to", context=context)
    context["version"] = 4
    assert (refusal.field, refusal.context) == ("to", {"version": 3})
    assert NotFound("gone").context == {}


def test_codes_are_words_that_a_client_can_branch_on() -> None:
    codes = sorted(kind.code for kind in DomainError.__subclasses__())
    assert all(code.replace("_", "").isalpha() and code.isupper() for code in codes)
    assert all(one != other for one, other in pairwise(codes))


def test_what_is_held_back_is_a_version_conflict_to_every_client() -> None:
    refusal = HeldBack("a part of your change waits for a decision", context={"version": 2})
    assert isinstance(refusal, VersionConflict)
    assert (refusal.code, refusal.context) == ("VERSION_CONFLICT", {"version": 2})
