"""One-time codes in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from heallog.adapters.memory.store import ConstraintViolated, Overlay
from heallog.domain.codes import OneTimeCode


class CodeRepository:
    def __init__(self, tables: Overlay) -> None:
        self._tables = tables

    async def lock(self, email_key: str, since: datetime) -> Sequence[OneTimeCode]:
        found = [
            replace(code)
            for code in self._tables.codes.values()
            if code is not None and code.email_key == email_key and code.created_at > since
        ]
        return sorted(found, key=lambda code: (code.created_at, code.id), reverse=True)

    async def add(self, code: OneTimeCode) -> None:
        key = code.email_key, code.id
        with self._tables.writing():
            if self._tables.codes.get(key) is not None:
                raise ConstraintViolated("codes: this id is taken")
            self._tables.codes[key] = replace(code)

    async def put(self, code: OneTimeCode) -> None:
        key = code.email_key, code.id
        with self._tables.writing():
            known = self._tables.codes.get(key)
            if known is not None:
                self._tables.codes[key] = replace(known, looks=code.looks, used_at=code.used_at)
