"""`heallog audit …`: seal the trail, prove it."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from heallog.application import audit
from heallog.entrypoints.house import FAILED, House, check_current, find_practice, progress, with_services


def commands(house: House) -> App:
    app = App(name="audit", help="The audit trail: who read and changed what.")

    @app.command
    def verify(
        *,
        practice: str | None = None,
        seals: tuple[Path, ...] = (),
        json_: Annotated[bool, Parameter(name="--json")] = False,
    ) -> None:
        """Prove the trail: entries against seals, seals against what was told outside the database, versions.

        Finds entries that were changed, removed, added or reordered, cut ends, and versions that nobody declared; names
        the first. Exit code 1 where there is one.

        For example:

        - `heallog audit verify`
        - `heallog audit verify --practice Hillside --seals /backup/audit-seals.jsonl --json`

        Parameters
        ----------
        practice: One practice only, by id or name.
        seals: The file that seals were told in, audit-seals.jsonl in the data folder where it is not said. May be
            repeated: each server has its own.
        json_: Print one JSON object, for machines.
        """
        if missing := [str(path) for path in seals if not path.is_file()]:
            raise FileNotFoundError(f"there is no file {missing[0]}")
        with house.database() as url:
            check_current(house, url)
            proof = asyncio.run(_proved(house, url, practice, seals))
        if json_:
            print(json.dumps({"good": proof.flaw is None, **asdict(proof)}))
        else:
            _print_audit(proof)
        if proof.flaw is not None:
            sys.exit(FAILED)

    @app.command
    def seal() -> None:
        """Seal what is new, now. The server does so by itself, every HEALLOG_SEAL_EVERY seconds.

        For example:

        - `heallog audit seal`
        """
        with house.database() as url:
            check_current(house, url)
            entries = asyncio.run(with_services(house, url, lambda services: services.sealer().seal()))
        print(f"{entries:,} entries sealed")

    return app


async def _proved(house: House, url: str, practice: str | None, seals: Sequence[Path]) -> audit.Proof:
    async with house.services(url) as services:
        practice_id = None
        if practice is not None:
            async with services.uow() as uow:
                practice_id = (await find_practice(uow, practice)).id
        with progress() as bar:
            task = bar.add_task("audit", total=None)
            return await house.prove(
                services,
                practice_id,
                seals,
                lambda behind, total: bar.update(task, completed=behind, total=total),
            )


def _print_audit(proof: audit.Proof) -> None:
    print(f"seals: {proof.seals:,} follow from each other, {proof.witnessed:,} of them as told outside the database")
    print(f"entries: {proof.entries:,} were read, {proof.unsealed:,} of them too new for a seal")
    print(f"versions: {proof.versions:,} were read and follow from each other")
    if proof.flaw is not None:
        flaw = proof.flaw
        where = [
            f"{name} {value}"
            for name, value in (
                ("entry", flaw.entry_id),
                ("seal", flaw.seal),
                ("of", flaw.collection),
                ("thing", flaw.thing_id),
                ("version", flaw.version),
            )
            if value is not None
        ]
        print(f"  FIRST FLAW: {', '.join(where)} (practice {flaw.practice_id}): {flaw.what}")
