"""A push: what a device did without a network, and what became of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from heallog.domain.access import Actor
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import ID, Choice, Errors, Field, Fields, Moment, Number, Text, check_fields
from heallog.domain.versions import Collection, immutable

MERGE, STRICT = "merge", "strict"
_LARGEST_VERSION = 2**31 - 1

PUSH: Fields = {
    "push_id": Field(ID, required=True, says="Made by the device, another for each push; the same for a retry."),
    "mode": Field(Choice((MERGE, STRICT)), says="`strict`: any conflict, and nothing is kept. `merge` where missing."),
}
OPERATION: Fields = {
    "op": Field(Choice(("create", "update", "delete")), required=True),
    "collection": Field(Choice(tuple(Collection)), required=True),
    "id": Field(ID, required=True),
    "patient_id": Field(ID, says="Of a record that is created."),
    "base_version": Field(
        Number(least=1, most=_LARGEST_VERSION, whole=True),
        says="The version that the device had, of update and delete.",
    ),
    "client_time": Field(Moment(exact=True), says="The device's clock. Kept, never trusted."),
    "reason": Field(Text(2_000, lines=True)),
}


DISCARDING: Fields = {"reason": Field(Text(2_000, shortest=1, lines=True), required=True, says="Why it is let go.")}


class Status(StrEnum):
    """What became of an operation."""

    CREATED = "created"
    UPDATED = "updated"
    MERGED = "merged"
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"


@immutable
class Operation:
    """One thing created, changed or deleted. `wrong` is what is wrong with its form; `sent` is how it came."""

    index: int
    op: str
    collection: Collection
    id: str
    patient_id: str | None
    base_version: int | None
    fields: Mapping[str, Any]
    client_time: datetime | None
    reason: str | None
    sent: Any
    wrong: tuple[FieldError, ...] = ()

    def check(self) -> None:
        """Raises `InvalidFields`."""
        if self.wrong:
            raise InvalidFields(self.wrong)


@dataclass(frozen=True, slots=True)
class Contribution:
    """Operations that are all done, or none."""

    operations: tuple[Operation, ...]

    @property
    def rank(self) -> int:
        """What others may depend on first: creations of patients."""
        for one in self.operations:
            if one.op == "create" and one.collection is Collection.PATIENTS:
                return 0
        return 1


@dataclass(frozen=True, slots=True)
class Push:
    id: str
    mode: str
    contributions: tuple[Contribution, ...]
    as_sent: Any

    @property
    def operations(self) -> Iterator[Operation]:
        return (operation for contribution in self.contributions for operation in contribution.operations)

    def in_order(self) -> Sequence[Contribution]:
        """Patients before what may be theirs; else as the device did it."""
        return sorted(self.contributions, key=lambda contribution: contribution.rank)


def read(body: Mapping[str, Any], most: int) -> Push:
    """A push as it was sent, of at most so many operations: what they are about is locked until all are done.

    What is wrong with one operation stays with it; what is wrong with the whole is raised.
    """
    errors: Errors = []
    said = check_fields(PUSH, {name: value for name, value in body.items() if name != "contributions"}, errors)
    groups = body.get("contributions")
    if not isinstance(groups, list) or not all(
        isinstance(group, dict) and isinstance(group.get("operations"), list) for group in groups
    ):
        errors.append(FieldError("contributions", "type", "must be a list of objects with a list of operations"))
        groups = []
    if sum(len(group["operations"]) for group in groups) > most:
        errors.append(FieldError("contributions", "too_many", f"must have at most {most} operations in all"))
    if errors:
        raise InvalidFields(errors)
    contributions: list[Contribution] = []
    index = 0
    for group in groups:
        operations = []
        for sent in group["operations"]:
            operations.append(_operation(index, sent))
            index += 1
        if operations:
            contributions.append(Contribution(tuple(operations)))
    return Push(said["push_id"], said.get("mode", MERGE), tuple(contributions), body)


def _operation(index: int, sent: Any) -> Operation:
    errors: Errors = []
    body = sent if isinstance(sent, dict) else {}
    if not isinstance(sent, dict):
        errors.append(FieldError("", "type", "must be an object"))
    meta = {name: value for name, value in body.items() if name != "fields"}
    said = check_fields(OPERATION, meta, errors)
    fields = body.get("fields", {})
    if not isinstance(fields, dict):
        errors.append(FieldError("fields", "type", "must be an object"))
        fields = {}
    op = said.get("op")
    if op in ("update", "delete") and "base_version" not in said and not errors:
        errors.append(FieldError("base_version", "required", "is required: the version that the device had"))
    if op == "create" and said.get("collection") == Collection.RECORDS and "patient_id" not in said and not errors:
        errors.append(FieldError("patient_id", "required", "is required for a record"))
    good = not errors
    client_time = said.get("client_time") if good else None
    return Operation(
        index,
        op if good and op else "update",
        Collection(said["collection"]) if good else Collection.RECORDS,
        said["id"] if good else "",
        said.get("patient_id") if good else None,
        said.get("base_version") if good else None,
        fields,
        datetime.fromisoformat(client_time) if client_time else None,
        said.get("reason") if good else None,
        sent,
        tuple(errors),
    )


@immutable
class Outcome:
    """Of one operation."""

    index: int
    status: Status
    collection: str
    id: str
    version: int | None
    conflict_id: str | None = None
    severity: str | None = None
    quarantine_id: str | None = None
    errors: tuple[dict[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        told = {
            "index": self.index,
            "status": self.status,
            "collection": self.collection,
            "id": self.id,
            "version": self.version,
        }
        if self.conflict_id:
            told["conflict_id"] = self.conflict_id
        if self.severity:
            told["severity"] = self.severity
        if self.quarantine_id:
            told["quarantine_id"] = self.quarantine_id
        if self.errors:
            told["errors"] = list(self.errors)
        return told


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push that was done, with its answer: what a device gets that did not hear it."""

    practice_id: str
    device_id: str
    push_id: str
    account_id: str
    at: datetime
    digest: bytes
    answer: bytes


def pushed(actor: Actor, push_id: str, at: datetime, digest: bytes, answer: bytes) -> Pushed:
    return Pushed(actor.practice_id, actor.device_id, push_id, actor.account_id, at, digest, answer)


def unlike() -> InvalidFields:
    """Two pushes under one id: one of them would be lost."""
    return InvalidFields([FieldError("push_id", "taken", "stands for another push of this device; make a new one")])


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An operation that can never be done as it is: kept as it came, until a person has looked at it."""

    practice_id: str
    id: str
    push_id: str
    account_id: str
    device_id: str
    at: datetime
    operation: Any
    errors: tuple[dict[str, str], ...]
    closed_at: datetime | None = field(default=None)

    @classmethod
    def of(
        cls, actor: Actor, push_id: str, id: str, operation: Operation, outcome: Outcome, at: datetime
    ) -> "Quarantined":
        return cls(
            actor.practice_id, id, push_id, actor.account_id, actor.device_id, at, operation.sent, outcome.errors
        )
