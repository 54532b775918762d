"""Late edits and conflicts through the use cases: what is merged, what is held back, and what a person decides."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from heallog.application.versions import Why
from heallog.domain import access
from heallog.domain.access import Actor, Permission, Role
from heallog.domain.conflicts import Kind, Severity, State, document
from heallog.domain.errors import (
    Forbidden,
    InvalidFields,
    NotFound,
    VersionConflict,
    WrongState,
)
from heallog.domain.events import ContributionCommitted
from heallog.domain.versions import Change, Seen

from .story import IBUPROFEN, SO, VISIT, Story, asked, change, held_back, two_doses
from .world import MINUTE, NOON, World, saw

MODIFICATION, MERGE, AMENDMENT, DELETION = Change.MODIFICATION, Change.MERGE, Change.AMENDMENT, Change.DELETION


# -- every kind of conflict, from its beginning to its end --------------------------------------------------------

Step = Callable[[Story, Actor], Awaitable[object]]
Content = tuple[int, Mapping[str, Any]] | None
"""The content of the version with this number, with these changes; None is a deletion."""


@dataclass(frozen=True)
class Case:
    """dr_okafor's steps, then dr_lee's `late` one, and what is to come of them.

    `kept` are the versions that the late step makes: (parent, inputs, change, branch). `ends` are the ways to decide:
    what is taken of every field, the sort of change and the content that it makes.
    """

    begin: Mapping[str, Any]
    first: Sequence[Step]
    late: Step
    kind: Kind
    severity: Severity
    asked: Sequence[tuple[str, Any, Any, Any]]
    head: tuple[int, Content]
    kept: Sequence[tuple[int | None, tuple[int, ...], Change, bool]]
    ends: Mapping[str, tuple[Change, Content]]
    branch: int
    """The version that holds what was held back."""
    held: bool = True
    """Whether dr_lee is told that it was held back."""
    base: int = 1
    draft: Mapping[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {
    "a dose against a dose": Case(
        IBUPROFEN,
        [lambda story, who: story.change(who, 1, dose=20)],
        lambda story, who: story.change(who, 1, dose=15),
        Kind.GROUP,
        Severity.SAFETY,
        [("dose", 10, 20, 15)],
        (2, (1, {"dose": 20})),
        [(1, (), MODIFICATION, True)],
        {"mine": (MERGE, (2, {"dose": 15})), "theirs": (MERGE, (2, {})), "base": (MERGE, (2, {"dose": 10}))},
        branch=3,
    ),
    "a dose against its unit": Case(
        IBUPROFEN,
        [lambda story, who: story.change(who, 1, dose=20)],
        lambda story, who: story.change(who, 1, dose_unit="g", tags=["new"]),
        Kind.GROUP,
        Severity.SAFETY,
        [("dose", 10, 20, 10), ("dose_unit", "mg", "mg", "g")],
        (4, (2, {"tags": ["new"]})),
        [(1, (), MODIFICATION, True), (2, (2, 3), MERGE, False)],
        {
            "mine": (MERGE, (4, {"dose": 10, "dose_unit": "g"})),
            "theirs": (MERGE, (4, {})),
            "base": (MERGE, (4, {"dose": 10})),
        },
        branch=3,
    ),
    "a title against a title": Case(
        IBUPROFEN,
        [lambda story, who: story.change(who, 1, title="Advil")],
        lambda story, who: story.change(who, 1, title="Nurofen"),
        Kind.FIELD,
        Severity.HARD,
        [("title", "Ibuprofen", "Advil", "Nurofen")],
        (2, (1, {"title": "Advil"})),
        [(1, (), MODIFICATION, True)],
        {"mine": (MERGE, (2, {"title": "Nurofen"})), "theirs": (MERGE, (2, {})), "base": (MERGE, (1, {}))},
        branch=3,
    ),
    "a birth date against a birth date": Case(
        {"family_name": "Smith", "birth_date": "1960-01-01"},
        [lambda story, who: story.change(who, 1, birth_date="1961-01-01")],
        lambda story, who: story.change(who, 1, birth_date=None, tags=["asthma"]),
        Kind.FIELD,
        Severity.SAFETY,
        [("birth_date", "1960-01-01", "1961-01-01", None)],
        (4, (2, {"tags": ["asthma"]})),
        [(1, (), MODIFICATION, True), (2, (2, 3), MERGE, False)],
        {
            "mine": (MERGE, (4, {"birth_date": None})),
            "theirs": (MERGE, (4, {})),
            "base": (MERGE, (4, {"birth_date": "1960-01-01"})),
        },
        branch=3,
    ),
    "an end before its start": Case(
        VISIT,
        [lambda story, who: story.change(who, 1, occurred_at="2026-05")],
        lambda story, who: story.change(who, 1, ended_at="2026-04"),
        Kind.INVARIANT,
        Severity.HARD,
        [("ended_at", "2026-06", "2026-06", "2026-04"), ("occurred_at", "2026-03", "2026-05", "2026-03")],
        (2, (1, {"occurred_at": "2026-05"})),
        [(1, (), MODIFICATION, True)],
        {"mine": (MERGE, (3, {})), "theirs": (MERGE, (2, {})), "base": (MERGE, (1, {}))},
        branch=3,
    ),
    "two creations": Case(
        IBUPROFEN,
        [],
        lambda story, who: story.create(who, change(IBUPROFEN, dose=15, tags=["new"])),
        Kind.CREATE_CREATE,
        Severity.SAFETY,
        [("dose", None, 10, 15), ("tags", None, None, ["new"])],
        (1, (1, {})),
        [(None, (), Change.CREATION, True)],
        {"mine": (MERGE, (2, {})), "theirs": (MERGE, (1, {})), "base": (MERGE, (1, {"dose": None}))},
        branch=2,
        base=0,
    ),
    "two creations, the first one changed": Case(
        {"family_name": "Smith"},
        [lambda story, who: story.change(who, 1, phone="1")],
        lambda story, who: story.create(who, {"family_name": "Smyth", "phone": "1"}),
        Kind.CREATE_CREATE,
        Severity.SAFETY,
        [("family_name", None, "Smith", "Smyth")],
        (2, (1, {"phone": "1"})),
        [(None, (), Change.CREATION, True)],
        {"mine": (MERGE, (3, {})), "theirs": (MERGE, (2, {}))},
        branch=3,
        base=0,
    ),
    "a deletion against an edit": Case(
        IBUPROFEN,
        [lambda story, who: story.change(who, 1, dose=20)],
        lambda story, who: story.delete(who, 1),
        Kind.DELETE_EDIT,
        Severity.HARD,
        [("deleted", False, False, True)],
        (2, (1, {"dose": 20})),
        [(1, (), DELETION, True)],
        {"mine": (DELETION, None), "theirs": (MERGE, (2, {})), "base": (MERGE, (2, {}))},
        branch=3,
    ),
    "an edit against a deletion": Case(
        IBUPROFEN,
        [lambda story, who: story.change(who, 1, dose=20), lambda story, who: story.delete(who, 2)],
        lambda story, who: story.change(who, 1, tags=["new"]),
        Kind.DELETE_EDIT,
        Severity.HARD,
        [("deleted", False, False, True)],
        (5, (2, {"tags": ["new"]})),
        [(1, (), MODIFICATION, True), (3, (3, 4), MERGE, False)],
        {"mine": (DELETION, None), "theirs": (MERGE, (5, {}))},
        branch=3,
        held=False,
    ),
    "an edit against a signature": Case(
        IBUPROFEN,
        [lambda story, who: story.change(who, 1, title="Advil"), lambda story, who: story.sign(who, 2)],
        lambda story, who: story.change(who, 1, dose=15, tags=["new"]),
        Kind.SIGNED,
        Severity.SAFETY,
        [("dose", 10, 10, 15), ("tags", None, None, ["new"])],
        (3, (2, {"status": "signed", "signed_by": "dr_okafor", "signed_at": "2026-03-02T12:01:00.000Z"})),
        [(1, (), MODIFICATION, True)],
        {
            "mine": (AMENDMENT, (3, {"dose": 15, "tags": ["new"], "status": "amended"})),
            "theirs": (MERGE, (3, {})),
            "base": (MERGE, (3, {})),
        },
        branch=4,
    ),
    "an edit against an error": Case(
        IBUPROFEN,
        [lambda story, who: story.retract(who, 1)],
        lambda story, who: story.change(who, 1, title="Advil"),
        Kind.SIGNED,
        Severity.HARD,
        [("title", "Ibuprofen", "Ibuprofen", "Advil")],
        (2, (1, {"status": "entered_in_error"})),
        [(1, (), MODIFICATION, True)],
        {"theirs": (MERGE, (2, {}))},
        branch=3,
    ),
    "an amendment against an amendment": Case(
        IBUPROFEN,
        [lambda story, who: story.sign(who, 1), lambda story, who: story.amend(who, 2, dose=20)],
        lambda story, who: story.amend(who, 2, dose=15, tags=["new"]),
        Kind.GROUP,
        Severity.SAFETY,
        [("dose", 10, 20, 15)],
        (5, (3, {"tags": ["new"]})),
        [(2, (), AMENDMENT, True), (3, (3, 4), MERGE, False)],
        {
            "mine": (AMENDMENT, (5, {"dose": 15})),
            "theirs": (MERGE, (5, {})),
            "base": (AMENDMENT, (5, {"dose": 10})),
        },
        branch=4,
        base=2,
    ),
    "a phone against a phone": Case(
        {"family_name": "Smith", "phone": "1"},
        [lambda story, who: story.change(who, 1, phone="2")],
        lambda story, who: story.change(who, 1, phone="3"),
        Kind.FIELD,
        Severity.SOFT,
        [("phone", "1", "3", "2")],
        (4, (1, {"phone": "3"})),
        [(1, (), MODIFICATION, True), (2, (2, 3), MERGE, False)],
        {"mine": (MERGE, (2, {})), "theirs": (MERGE, (4, {})), "base": (MERGE, (1, {}))},
        branch=2,
        held=False,
    ),
}


def test_every_kind_and_every_severity_has_its_case() -> None:
    assert {case.kind for case in CASES.values()} == set(Kind)
    assert {case.severity for case in CASES.values()} == set(Severity)


async def play(story: Story, case: Case) -> dict[str, Any]:
    """Everything up to the conflict; what dr_lee is told where it was held back."""
    await story.begin(case.begin)
    for step in case.first:
        await step(story, story.dr_okafor)
    story.world.told.clear()
    story.world.clock.now += MINUTE
    if case.held:
        return await held_back(case.late(story, story.dr_lee))
    await case.late(story, story.dr_lee)
    return {}


async def content_of(story: Story, wanted: Content) -> dict[str, Any] | None:
    if wanted is None:
        return None
    number, changes = wanted
    return change((await story.contents())[number], **changes)


@pytest.mark.parametrize("name", CASES)
async def test_the_head_answers_and_the_other_is_kept(story: Story, name: str) -> None:
    case = CASES[name]
    context = await play(story, case)
    head, conflict, versions = await story.head(), await story.conflict(), await story.versions()
    assert (head.version, head.fields()) == (case.head[0], await content_of(story, case.head[1]))
    kept = versions[-len(case.kept) :]
    assert [(one.parent, one.inputs, one.change, one.branch) for one in kept] == case.kept
    assert {(one.author_id, one.device_id, one.received_at) for one in kept} == {
        ("dr_lee", "laptop-2", story.world.clock.now)
    }
    assert len({one.contribution_id for one in kept}) == 1
    assert (head.last, head.conflict_id) == (len(versions), conflict.id)
    await story.proves_itself()

    assert (conflict.kind, conflict.severity, conflict.state) == (case.kind, case.severity, State.OPEN)
    assert (conflict.collection, conflict.thing_id, conflict.patient_id) == (story.collection, "it", head.patient_id)
    assert (conflict.base_version, conflict.head_version) == (case.base, head.version)
    assert conflict.branches == (case.branch,)
    assert asked(conflict) == case.asked
    author = versions[case.branch - 1]
    assert {(one.branch, one.author_id, one.at) for one in conflict.disputed} == {
        (case.branch, author.author_id, author.received_at)
    }
    assert conflict.opened_at == conflict.updated_at == story.world.clock.now
    assert bool(conflict.held) == (case.severity is not Severity.SOFT)
    if case.held:
        assert context["conflict"] == document(conflict)
        assert (context["version"], context["head"]) == (head.version, head.fields())


@pytest.mark.parametrize("name", CASES)
async def test_what_was_held_back_is_declared_as_what_it_is(story: Story, name: str) -> None:
    case = CASES[name]
    await play(story, case)
    made = await story.versions()
    entry = story.world.trail[-1]
    assert (entry.account_id, entry.device_id) == ("dr_lee", "laptop-2")
    assert (entry.outcome, entry.version, entry.hash) == (
        "conflict" if case.held else "done",
        made[-1].number,
        made[-1].hash,
    )
    [event] = story.world.told
    assert isinstance(event, ContributionCommitted)
    assert (event.action, event.account_id) == (entry.action, "dr_lee")
    refused = [one for one in story.world.entries if one.outcome == "refused"]
    assert refused == []  # it has its entry already


@pytest.mark.parametrize("name", CASES)
async def test_who_repeats_what_was_held_back_is_told_again_and_nothing_is_written(story: Story, name: str) -> None:
    """The answer was lost; the client tries again with the very same request."""
    case = CASES[name]
    context = await play(story, case)
    before, versions, written = await story.head(), await story.versions(), len(story.world.trail)
    story.world.clock.now += MINUTE
    if case.held:
        again = await held_back(case.late(story, story.dr_lee))
        assert again == context
    else:
        await case.late(story, story.dr_lee)
    assert await story.versions() == versions
    assert await story.head() == before
    assert len(story.world.trail) == written


ENDS = [pytest.param(name, side, id=f"{name}: {side}") for name, case in CASES.items() for side in case.ends]


@pytest.mark.parametrize(("name", "side"), ENDS)
async def test_a_person_decides_and_the_conflict_is_over(story: Story, name: str, side: str) -> None:
    case = CASES[name]
    change_, wanted = case.ends[side]
    await play(story, case)
    open_, seen = await story.conflict(), await story.head()
    story.world.clock.now += MINUTE
    choices = {one.field: {"take": side} for one in open_.disputed}
    resolved, head = await story.world.conflicts.resolve(story.grace, open_.id, seen.version, choices, SO)

    content = await content_of(story, wanted)
    assert (None if head.deleted else head.fields()) == content
    assert (head.version, head.last, head.conflict_id) == (seen.last + 1, seen.last + 1, None)
    assert await story.head() == head
    version = (await story.versions())[-1]
    assert (version.change, version.parent, version.branch) == (change_, seen.version, False)
    assert version.inputs == head.merged_from == tuple(sorted({seen.version, case.branch}))
    assert (version.author_id, version.reason) == ("grace", "Asked the patient.")
    await story.proves_itself()

    assert await story.conflict() == resolved
    assert (resolved.state, resolved.disputes, resolved.updated_at) == (
        State.RESOLVED,
        open_.disputes,
        NOON + 3 * MINUTE,
    )
    assert resolved.resolution is not None
    assert (resolved.resolution.account_id, resolved.resolution.version) == ("grace", version.number)
    assert (resolved.resolution.reason, resolved.resolution.choices) == ("Asked the patient.", choices)
    entry = story.world.trail[-1]
    assert (entry.action, entry.outcome, entry.version) == (f"{story.collection}.resolve", "done", version.number)
    assert entry.reason == "Asked the patient."


@pytest.mark.parametrize("name", [name for name in CASES if name != "a deletion against an edit"])
async def test_after_the_decision_a_repeat_is_no_conflict_any_more(story: Story, name: str) -> None:
    case = CASES[name]
    await play(story, case)
    choices = {one.field: {"take": "theirs"} for one in (await story.conflict()).disputed}
    _, head = await story.resolve(story.grace, (await story.head()).version, **choices)
    assert await case.late(story, story.dr_lee) == head
    assert (await story.conflict()).state is State.RESOLVED


@pytest.mark.parametrize("name", CASES)
async def test_the_second_to_decide_is_told_what_the_first_decided(story: Story, name: str) -> None:
    case = CASES[name]
    await play(story, case)
    conflict, seen = await story.conflict(), await story.head()
    choices = {one.field: {"take": "theirs"} for one in conflict.disputed}
    resolved, head = await story.resolve(story.grace, seen.version, **choices)
    for version in (seen.version, head.version):
        with pytest.raises(VersionConflict) as refused:
            await story.resolve(story.dr_lee, version, **choices)
        assert refused.value.context == {
            "version": head.version,
            "head": head.fields(),
            "conflict": document(resolved),
        }
    assert await story.head() == head


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("who", ["amara", "ines"])
async def test_neither_an_assistant_nor_an_auditor_decides(story: Story, name: str, who: str) -> None:
    await play(story, CASES[name])
    conflict, seen = await story.conflict(), await story.head()
    choices = {one.field: {"take": "theirs"} for one in conflict.disputed}
    with pytest.raises(Forbidden) as refused:
        await story.resolve(getattr(story.world, who), seen.version, **choices)
    assert refused.value.context == {"permission": "conflicts.resolve"}
    assert await story.conflict() == conflict
    entry = story.world.entries[-2]  # the last one is the look at the list
    assert (entry.action, entry.outcome, entry.reason, entry.thing_id) == (
        *("conflicts.resolve", "refused", "FORBIDDEN"),
        conflict.id,
    )


async def test_what_was_entered_in_error_takes_no_edit_from_a_decision_either(story: Story) -> None:
    await play(story, CASES["an edit against an error"])
    with pytest.raises(WrongState):
        await story.resolve(story.grace, 2, title={"take": "mine"})
    assert (await story.conflict()).state is State.OPEN


# -- deciding -----------------------------------------------------------------------------------------------------


async def test_a_person_may_decide_on_a_value_that_nobody_had_given(story: Story) -> None:
    await two_doses(story)
    _, head = await story.resolve(story.grace, 2, dose={"value": 17})
    assert (head.version, head.fields()["dose"]) == (4, 17)


async def test_a_decision_gives_its_reason(story: Story) -> None:
    await two_doses(story)
    for reason in (None, "", " \t"):
        with pytest.raises(InvalidFields) as refused:
            await story.resolve(story.grace, 2, Why(reason), dose={"take": "mine"})
        assert [error.field for error in refused.value.errors] == ["reason"]


async def test_a_decision_that_leaves_something_open_or_breaks_a_rule_changes_nothing(story: Story) -> None:
    conflict = await two_doses(story)
    for choices, field_ in (
        ({}, "choices.dose"),
        ({"dose": {"value": -1}}, "choices.dose"),
        ({"dose": {"value": "a spoonful"}}, "choices.dose"),
        ({"dose": {"take": "mine"}, "title": {"value": "Advil"}}, "choices.title"),
    ):
        with pytest.raises(InvalidFields) as refused:
            await story.resolve(story.grace, 2, **choices)
        assert [error.field for error in refused.value.errors] == [field_]
    assert await story.conflict() == conflict
    assert len(await story.versions()) == 3


async def test_a_decision_keeps_the_rules_over_several_fields(story: Story) -> None:
    await play(story, CASES["an end before its start"])
    with pytest.raises(InvalidFields) as refused:
        await story.resolve(story.grace, 2, ended_at={"take": "mine"}, occurred_at={"take": "theirs"})
    assert [(error.field, error.code) for error in refused.value.errors] == [("choices.ended_at", "order")]
    _, head = await story.resolve(story.grace, 2, ended_at={"value": "2026-05"}, occurred_at={"take": "theirs"})
    assert (head.fields()["occurred_at"], head.fields()["ended_at"]) == ("2026-05", "2026-05")


async def test_whether_it_is_deleted_is_yes_or_no(story: Story) -> None:
    await play(story, CASES["a deletion against an edit"])
    with pytest.raises(InvalidFields) as refused:
        await story.resolve(story.grace, 2, deleted={"value": "yes"})
    assert [error.field for error in refused.value.errors] == ["choices.deleted.value"]
    _, head = await story.resolve(story.grace, 2, deleted={"value": True})
    assert head.deleted
    back = await story.world.records.restore(story.grace, "it", saw(head))
    assert back.fields()["dose"] == 20


async def test_a_foreign_conflict_answers_as_a_missing_one(story: Story) -> None:
    conflict = await two_doses(story)
    cases, dr_stern = story.world.conflicts, story.world.dr_stern
    for actor, id_ in ((dr_stern, conflict.id), (story.grace, "nothing")):
        for attempt in (cases.get(actor, id_), cases.resolve(actor, id_, 2, {"dose": {"take": "mine"}}, SO)):
            with pytest.raises(NotFound) as refused:
                await attempt
            assert refused.value.message == "there is no such conflict"
    assert await cases.page(dr_stern, state=None, patient_id=None, after=None, limit=9) == []


async def test_the_decision_names_the_head_that_it_saw(story: Story) -> None:
    conflict = await two_doses(story)
    moved = await story.change(story.amara, 2, title="Advil")
    followed = await story.conflict()
    with pytest.raises(VersionConflict) as refused:
        await story.resolve(story.grace, 2, dose={"take": "mine"})
    assert refused.value.context == {"version": 4, "head": moved.fields(), "conflict": document(followed)}
    assert (followed.head_version, followed.id, asked(followed)) == (4, conflict.id, asked(conflict))
    _, head = await story.resolve(story.grace, 4, dose={"take": "mine"})
    assert head.merged_from == (3, 4)
    assert head.fields() == change(IBUPROFEN, title="Advil", dose=15, status="draft")


@pytest.fixture
def assistants_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A house in which assistants may decide, though neither sign nor delete."""
    more = access.PERMISSIONS[Role.ASSISTANT] | {Permission.RESOLVE_CONFLICTS}
    monkeypatch.setitem(access.PERMISSIONS, Role.ASSISTANT, more)


@pytest.mark.usefixtures("assistants_decide")
async def test_to_amend_what_is_signed_takes_the_right_to_sign(story: Story) -> None:
    await play(story, CASES["an edit against a signature"])
    with pytest.raises(Forbidden) as refused:
        await story.resolve(story.amara, 3, dose={"take": "mine"}, tags={"take": "theirs"})
    assert refused.value.context == {"permission": "records.sign"}
    resolved, _ = await story.resolve(story.amara, 3, dose={"take": "theirs"}, tags={"take": "theirs"})
    assert resolved.state is State.RESOLVED


@pytest.mark.usefixtures("assistants_decide")
@pytest.mark.parametrize(
    ("body", "permission"), [(IBUPROFEN, "records.delete"), ({"family_name": "Smith"}, "patients.delete")]
)
async def test_to_delete_takes_the_right_to_delete(story: Story, body: dict[str, Any], permission: str) -> None:
    await story.begin(body)
    await story.change(story.dr_okafor, 1, tags=["new"])
    await held_back(story.delete(story.dr_lee, 1))
    with pytest.raises(Forbidden) as refused:
        await story.resolve(story.amara, 2, deleted={"take": "mine"})
    assert refused.value.context == {"permission": permission}
    resolved, _ = await story.resolve(story.amara, 2, deleted={"take": "theirs"})
    assert resolved.state is State.RESOLVED


# -- what HealLog sets itself -------------------------------------------------------------------------------------


def weighing(kilograms: int) -> dict[str, Any]:
    values = {"weight": {"value": kilograms, "unit": "kg"}, "height": {"value": 180, "unit": "cm"}}
    return {"kind": "observation", "values": values}


async def test_a_twin_of_what_was_signed_does_not_dispute_the_signature(story: Story) -> None:
    await story.begin()
    await story.sign(story.dr_okafor, 1)
    await held_back(story.create(story.dr_lee, change(IBUPROFEN, dose=15)))
    assert [one.field for one in (await story.conflict()).disputed] == ["dose"]
    _, head = await story.resolve(story.grace, 2, dose={"take": "mine"})
    assert (head.fields()["dose"], head.fields()["status"]) == (15, "amended")


async def test_an_amendment_of_what_was_found_an_error_does_not_dispute_the_status(story: Story) -> None:
    await story.begin()
    await story.sign(story.dr_okafor, 1)
    await story.retract(story.dr_okafor, 2)
    await held_back(story.amend(story.dr_lee, 2, dose=15))
    assert asked(await story.conflict()) == [("dose", 10, 10, 15)]


async def test_twins_do_not_dispute_what_follows_from_their_values(story: Story) -> None:
    await story.begin(weighing(80))
    await held_back(story.create(story.dr_lee, weighing(90)))
    assert [one.field for one in (await story.conflict()).disputed] == ["values.weight"]
    _, head = await story.resolve(story.grace, 1, **{"values.weight": {"take": "mine"}})
    assert head.fields()["bmi"] == 27.8


async def test_a_proposal_does_not_dispute_what_follows_from_its_values(story: Story) -> None:
    await story.begin(weighing(80))
    await story.sign(story.dr_okafor, 1)
    await held_back(story.change(story.dr_lee, 1, values=weighing(90)["values"]))
    assert [one.field for one in (await story.conflict()).disputed] == ["values.weight"]
    _, head = await story.resolve(story.grace, 2, **{"values.weight": {"take": "mine"}})
    assert head.fields()["bmi"] == 27.8


# -- looking ------------------------------------------------------------------------------------------------------


async def test_conflicts_are_listed_by_state_and_patient(world: World) -> None:
    for patient in ("alice", "bruno"):
        await world.admit(patient, phone="1")
        await world.patients.change(world.dr_okafor, patient, {"sex": "female"}, Seen(1))
        await held_back(world.patients.change(world.dr_lee, patient, {"sex": "male"}, Seen(1)))
    everything: dict[str, Any] = {"state": None, "patient_id": None, "after": None, "limit": 9}

    async def listed(**chosen: Any) -> list[str]:
        return [one.patient_id for one in await world.conflicts.page(world.ines, **everything | chosen)]

    assert sorted(await listed()) == sorted(await listed(state=State.OPEN)) == ["alice", "bruno"]
    assert await listed(patient_id="bruno") == ["bruno"]
    [alice] = await world.conflicts.page(world.ines, **everything | {"patient_id": "alice"})
    await world.conflicts.resolve(world.grace, alice.id, 2, {"sex": {"take": "mine"}}, SO)
    assert await listed(state=State.OPEN) == ["bruno"]
    assert await listed(state=State.RESOLVED) == ["alice"]
    assert await listed(state=State.SUPERSEDED) == []
    assert len(await listed(limit=1)) == 1


@pytest.mark.parametrize("who", ["dr_okafor", "amara", "ines", "grace"])
async def test_whoever_reads_records_reads_conflicts_and_leaves_an_entry(story: Story, who: str) -> None:
    conflict = await two_doses(story)
    actor = getattr(story.world, who)
    assert await story.world.conflicts.get(actor, conflict.id) == conflict
    entry = story.world.entries[-1]
    assert (entry.action, entry.account_id, entry.patient_id) == ("conflicts.read", who, "alice")
    assert entry.thing_id == conflict.id
    await story.world.conflicts.page(actor, state=None, patient_id=None, after=None, limit=9)
    entry = story.world.entries[-1]
    assert (entry.action, entry.subjects) == ("conflicts.list", ("alice",))


async def test_no_value_of_a_conflict_reaches_the_trail_or_an_event(story: Story) -> None:
    canaries = [f"CANARY-{number}" for number in range(4)]
    await story.begin(IBUPROFEN | {"title": canaries[0]})
    await story.change(story.dr_okafor, 1, title=canaries[1])
    await held_back(story.change(story.dr_lee, 1, title=canaries[2], tags=[canaries[2]]))
    assert "CANARY-2" in str(document(await story.conflict()))
    await story.resolve(story.grace, 4, title={"value": canaries[3]})
    assert (await story.head()).fields()["title"] == canaries[3]
    assert "CANARY" not in repr(story.world.entries) + repr(story.world.told)
