"""Questions asked together: everyone gets their own answer, fresh, and nobody pays for somebody else."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from heallog.adapters.gathering import Gathered

Answers = Callable[[Sequence[str]], Sequence[str]]


@dataclass
class Oracle:
    """Answers a round when it is told to. `rounds` is what it was asked, in the order in which it was asked."""

    rounds: list[list[str]] = field(default_factory=list)
    open: int = 0
    most_open: int = 0
    _given: list["asyncio.Future[Answers]"] = field(default_factory=list)

    async def __call__(self, questions: Sequence[str]) -> Sequence[str]:
        self.rounds.append(list(questions))
        self._given.append(asyncio.get_running_loop().create_future())
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            return (await self._given[-1])(questions)
        finally:
            self.open -= 1

    def answer(self, round: int, say: Answers = lambda questions: [f"{one}!" for one in questions]) -> None:
        self._given[round].set_result(say)

    def fail(self, round: int, error: BaseException) -> None:
        self._given[round].set_exception(error)


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """Nobody leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    await turn()
    assert asyncio.all_tasks() - {asyncio.current_task()} <= before


def asked_of(oracle: Oracle, **options: int) -> Callable[[str], "asyncio.Future[str]"]:
    """Asks, and takes each answer as it is."""
    gathered: Gathered[str, str] = Gathered(oracle, **options)
    return lambda question: gathered(question, str)


async def turn() -> None:
    """So many turns of the loop that whatever can go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_everyone_gets_their_own_answer(oracle: Oracle) -> None:
    ask = asked_of(oracle)
    asked = [ask(f"q{number}") for number in range(5)]
    await turn()
    oracle.answer(0)
    assert await asyncio.gather(*asked) == ["q0!", "q1!", "q2!", "q3!", "q4!"]
    assert oracle.rounds == [["q0", "q1", "q2", "q3", "q4"]]


async def test_the_same_question_twice_has_two_answers(oracle: Oracle) -> None:
    ask = asked_of(oracle)
    asked = [ask("q"), ask("q")]
    await turn()
    oracle.answer(0, lambda questions: ["first", "second"])
    assert await asyncio.gather(*asked) == ["first", "second"]


async def test_what_comes_while_a_round_is_out_goes_with_the_next(oracle: Oracle) -> None:
    ask = asked_of(oracle, rounds=1)
    first = ask("a")
    await turn()
    later = [ask("b"), ask("c")]
    await turn()
    assert oracle.rounds == [["a"]]
    oracle.answer(0)
    assert await first == "a!"
    await turn()
    assert oracle.rounds == [["a"], ["b", "c"]]
    oracle.answer(1)
    assert await asyncio.gather(*later) == ["b!", "c!"]


async def test_an_answer_is_asked_after_its_question(oracle: Oracle) -> None:
    """Of the same thing, asked while its first answer is on its way, nobody is told the first answer."""
    ask = asked_of(oracle, rounds=1)
    old = ask("revoked?")
    await turn()
    new = ask("revoked?")
    oracle.answer(0, lambda questions: ["no"])
    assert await old == "no"
    assert not new.done()
    await turn()
    oracle.answer(1, lambda questions: ["yes"])
    assert await new == "yes"


async def test_no_more_rounds_are_out_than_there_may_be(oracle: Oracle) -> None:
    ask = asked_of(oracle, rounds=2)
    asked = []
    for number in range(6):
        asked.append(ask(f"q{number}"))
        await turn()
    assert oracle.rounds == [["q0"], ["q1"]]
    oracle.answer(1)
    await turn()
    assert oracle.rounds == [["q0"], ["q1"], ["q2", "q3", "q4", "q5"]]
    oracle.answer(0)
    oracle.answer(2)
    assert await asyncio.gather(*asked) == [f"q{number}!" for number in range(6)]
    assert oracle.most_open == 2


async def test_a_round_takes_no_more_than_the_largest(oracle: Oracle) -> None:
    ask = asked_of(oracle, largest=2, rounds=1)
    asked = [ask(f"q{number}") for number in range(5)]
    for out in range(3):
        await turn()
        oracle.answer(out)
    assert await asyncio.gather(*asked) == [f"q{number}!" for number in range(5)]
    assert oracle.rounds == [["q0", "q1"], ["q2", "q3"], ["q4"]]


async def test_an_error_reaches_its_round_and_no_other(oracle: Oracle) -> None:
    ask = asked_of(oracle, rounds=1)
    unlucky = [ask("a"), ask("b")]
    await turn()
    lucky = ask("c")
    oracle.fail(0, LookupError("silence"))
    for one in unlucky:
        with pytest.raises(LookupError, match="silence"):
            await one
    await turn()
    oracle.answer(1)
    assert await lucky == "c!"


@pytest.mark.parametrize("answers", [[], ["a!"], ["a!", "b!", "c!"]])
async def test_an_oracle_that_answers_too_much_or_too_little_leaves_nobody_waiting(
    oracle: Oracle, answers: list[str]
) -> None:
    ask = asked_of(oracle)
    asked = [ask("a"), ask("b")]
    await turn()
    oracle.answer(0, lambda questions: answers)
    await turn()
    assert all(one.done() and isinstance(one.exception(), ValueError) for one in asked)


async def test_whoever_stops_waiting_takes_nobody_with_them(oracle: Oracle) -> None:
    ask = asked_of(oracle, rounds=1)

    async def asking(question: str) -> str:
        return await ask(question)

    out = [asyncio.create_task(asking("a")), asyncio.create_task(asking("b"))]
    await turn()
    waiting = [asyncio.create_task(asking("c")), asyncio.create_task(asking("d"))]
    await turn()
    out[0].cancel()
    waiting[0].cancel()
    await turn()
    oracle.answer(0)
    assert await out[1] == "b!"
    await turn()
    oracle.answer(1)
    assert await waiting[1] == "d!"
    assert out[0].cancelled()
    assert waiting[0].cancelled()


async def test_an_error_passes_by_whoever_has_stopped_waiting(oracle: Oracle) -> None:
    ask = asked_of(oracle)
    gone, still = ask("a"), ask("b")
    await turn()
    gone.cancel()
    oracle.fail(0, LookupError("silence"))
    with pytest.raises(LookupError, match="silence"):
        async with asyncio.timeout(5):
            await still
    later = ask("c")
    await turn()
    oracle.answer(1)
    assert await later == "c!"


async def test_after_a_quiet_time_it_is_asked_again(oracle: Oracle) -> None:
    ask = asked_of(oracle, rounds=1)
    for out in range(3):
        asked = ask("q")
        await turn()
        oracle.answer(out)
        assert await asked == "q!"
    assert len(oracle.rounds) == 3


async def test_whoever_asks_in_the_very_turn_of_an_answer_is_answered_too(oracle: Oracle) -> None:
    ask = asked_of(oracle, rounds=1)

    async def asking(times: int) -> list[str]:
        return [await ask(f"q{number}") for number in range(times)]

    task = asyncio.create_task(asking(4))
    for out in range(4):
        await turn()
        oracle.answer(out)
    async with asyncio.timeout(5):
        assert await task == ["q0!", "q1!", "q2!", "q3!"]


async def test_everyone_reads_the_answer_in_their_own_way_and_who_cannot_read_it_harms_nobody(oracle: Oracle) -> None:
    gathered: Gathered[str, str] = Gathered(oracle)
    length, unreadable, shouted = gathered("a", len), gathered("a", int), gathered("a", str.upper)
    await turn()
    oracle.answer(0)
    assert (await length, await shouted) == (2, "A!")
    with pytest.raises(ValueError, match="invalid literal"):
        await unreadable
