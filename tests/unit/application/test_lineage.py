"""What a device has in mind: the version that it read, and what it made of that itself."""

import pytest

from heallog.domain.conflicts import State
from heallog.domain.errors import WrongState

from .story import IBUPROFEN, Story, asked, change, held_back


async def test_the_base_that_is_shown_is_what_both_sides_go_back_to(story: Story) -> None:
    """Dr Lee's 15 is withdrawn; what the prescription said before either of them touched it was 10."""
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    await held_back(story.change(story.dr_lee, 1, dose=15))
    await held_back(story.change(story.dr_lee, 1, dose=16))
    assert asked(await story.conflict()) == [("dose", 10, 20, 16)]
    _, head = await story.resolve(story.grace, 2, dose={"take": "base"})
    assert head.fields()["dose"] == 10


async def test_an_edit_made_with_other_eyes_is_no_repeat(story: Story) -> None:
    """Dr Lee's 16 was turned down. Then she reads version 2 and means 16 again: she is asked about, not overheard."""
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    await held_back(story.change(story.dr_lee, 1, dose=15))
    await held_back(story.change(story.dr_lee, 1, dose=16))
    await story.resolve(story.grace, 2, dose={"take": "theirs"})
    await story.change(story.dr_okafor, 5, dose=22)
    await held_back(story.change(story.dr_lee, 2, dose=16))
    [waiting] = [conflict for conflict in await story.conflicts() if conflict.state is State.OPEN]
    assert asked(waiting) == [("dose", 20, 22, 16)]


async def test_who_sees_the_head_and_writes_a_new_value_takes_the_old_one_back(story: Story) -> None:
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    await held_back(story.change(story.dr_lee, 1, dose=15))
    head = await story.change(story.dr_lee, 2, dose=25)
    assert (head.fields()["dose"], head.conflict_id) == (25, None)
    assert (await story.conflict()).state is State.SUPERSEDED


async def test_a_repeat_with_something_new_in_it_says_that_the_rest_still_waits(story: Story) -> None:
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    await held_back(story.change(story.dr_lee, 1, dose=15))
    await held_back(story.change(story.dr_lee, 1, dose=15, tags=["new"]))
    assert (await story.head()).fields() == change(IBUPROFEN, dose=20, tags=["new"], status="draft")
    assert asked(await story.conflict()) == [("dose", 10, 20, 15)]


async def test_a_change_of_nothing_is_not_held_back(story: Story) -> None:
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    await held_back(story.change(story.dr_lee, 1, dose=15))
    assert (await story.change(story.dr_lee, 1)).version == 2


async def test_a_proposal_brings_nothing_back_that_was_deleted(story: Story) -> None:
    """What was signed and then deleted stays deleted; the late edit waits, until someone restores it or closes it."""
    await story.begin()
    await story.sign(story.dr_okafor, 1)
    await story.delete(story.dr_okafor, 2)
    await held_back(story.change(story.amara, 1, dose=15))
    assert (await story.head()).deleted
    assert asked(await story.conflict()) == [("dose", 10, None, 15), ("dose_unit", "mg", None, "mg")]
    mine, theirs = {"take": "mine"}, {"take": "theirs"}
    with pytest.raises(WrongState, match="restore"):
        await story.resolve(story.grace, 3, dose=mine, dose_unit=mine)
    _, head = await story.resolve(story.grace, 3, dose=theirs, dose_unit=theirs)
    assert (head.deleted, head.conflict_id) == (True, None)
    await story.proves_itself()


async def test_a_proposal_for_a_list_is_both_lists(story: Story) -> None:
    await story.begin(change(IBUPROFEN, tags=["a"]))
    await story.change(story.dr_okafor, 1, tags=["a", "b"])
    await story.sign(story.dr_okafor, 2)
    await held_back(story.change(story.dr_lee, 1, tags=["a", "c"]))
    [dispute] = (await story.conflict()).disputed
    assert (dispute.theirs, dispute.mine, dispute.proposal) == (["a", "b"], ["a", "c"], ["a", "b", "c"])
