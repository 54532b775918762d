"""Questions of concurrent requests, asked together: one statement, many answers.

While one round is being asked, the questions of whoever comes meanwhile collect; they are the next round. Nobody waits
for a timer, and an answer is never older than its question.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Read = TypeVar("Read")


class Gathered(Generic[Question, Answer]):
    """`ask` takes the questions of one round and gives as many answers, in their order. `rounds` may be out at once."""

    def __init__(
        self, ask: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]], *, largest: int = 500, rounds: int = 2
    ) -> None:
        self._ask = ask
        self._largest = largest
        self._rounds = rounds
        self._waiting: list[tuple[Question, Callable[[Answer], Any], asyncio.Future[Any]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, question: Question, read: Callable[[Answer], Read]) -> "asyncio.Future[Read]":
        """What `read` makes of the answer, as soon as it is there.

        What goes wrong with asking is raised to everyone who asked in that round.
        """
        answer: asyncio.Future[Read] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, read, answer))
        if len(self._tasks) < self._rounds:
            self._tasks.add(asyncio.create_task(self._run()))
        return answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
                await self._round(asked)
        finally:
            # Here and not in a callback: that would come a turn too late for whoever asks meanwhile.
            self._tasks -= {asyncio.current_task()}

    async def _round(self, asked: Sequence[tuple[Question, Callable[[Answer], Any], "asyncio.Future[Any]"]]) -> None:
        try:
            answers = await self._ask([question for question, _, _ in asked])
            answered = list(zip(asked, answers, strict=True))
        except BaseException as error:
            for _, _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, read, answer), found in answered:
            if answer.done():
                continue
            try:
                answer.set_result(read(found))
            except Exception as error:
                answer.set_exception(error)
