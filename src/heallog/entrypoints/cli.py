"""The command line: `heallog …`. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done in part (some were refused)."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from heallog.application.imports import Report
from heallog.application.ledger import Proof
from heallog.domain.access import Actor, Role
from heallog.domain.errors import DomainError
from heallog.entrypoints import cli_audit, cli_people
from heallog.entrypoints.house import FAILED, House, check_current, find_practice, progress, with_services

IN_PART = 3

DEVICE = "command-line"


def create_cli(house: House, version: str, expected: tuple[type[Exception], ...]) -> App:
    """The commands over a house. `expected` errors are told in one line; any other is a bug and shows itself."""
    app = App(
        name="heallog",
        version=version,
        help="Versioned medical records for apps that must keep working offline.",
        help_epilogue="Settings come from HEALLOG_… variables or .env; `heallog config check` shows them.",
    )
    app.command(_database(house))
    app.command(_import(house))
    app.command(cli_audit.commands(house))
    app.command(_config(house))
    app.command(cli_people.users(house))
    app.command(cli_people.practices(house))

    @app.command
    def serve(
        *, host: str | None = None, port: int | None = None, workers: int | None = None, demo: bool = False
    ) -> None:
        """Start the HTTP server; with an embedded PostgreSQL where HEALLOG_DATABASE_URL is not set.

        For example:

        - `heallog serve`
        - `heallog serve --port 9000 --workers 2 --demo`

        Parameters
        ----------
        host: The address to listen on.
        port: The port to listen on.
        workers: How many processes serve.
        demo: Make a demo practice first, where it is missing.
        """
        host, port = house.address(host, port)
        with house.database() as url:
            house.upgrade(url, "head")
            ready = asyncio.run(_demo(house, url, host, port)) if demo else ""
            house.serve(url, host, port, workers, ready)

    @app.command
    def demo() -> None:
        """Make a practice with named clinicians, a few dozen patients and their history; say how to log in.

        For example:

        - `heallog demo`
        """
        with house.database() as url:
            house.upgrade(url, "head")
            print(asyncio.run(_demo(house, url, *house.address(None, None))))

    _tell(app, expected)
    return app


def _tell(app: App, expected: tuple[type[Exception], ...]) -> None:
    """Expected errors end the program with one line on stderr."""
    refusals: tuple[type[Exception], ...] = (DomainError, *expected)

    @app.meta.default
    def run(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> None:
        try:
            app(tokens)
        except refusals as error:
            Console(stderr=True).print(f"heallog: {error}", markup=False, style="red", soft_wrap=True)
            sys.exit(FAILED)


async def _demo(house: House, url: str, host: str, port: int) -> str:
    async with house.services(url) as services:
        return await house.demo(services, host, port)


# -- db -----------------------------------------------------------------------------------------------------------


def _database(house: House) -> App:
    app = App(name="db", help="The database's schema, and proving what is in it.")

    @app.command
    def upgrade(revision: str = "head") -> None:
        """Bring the schema up to a revision. Safe to run twice, and by two at once.

        For example:

        - `heallog db upgrade`
        """
        with house.database() as url:
            house.upgrade(url, revision)
            print(f"at {house.current(url)[0]}")

    @app.command
    def downgrade(revision: str, *, yes: bool = False) -> None:
        """Take the schema down to a revision. `base` deletes everything.

        For example:

        - `heallog db downgrade 0001 --yes`

        Parameters
        ----------
        revision: Where to go back to.
        yes: Data of what is taken down will be gone; say that you know.
        """
        if not yes:
            print("this deletes what the later revisions brought, data too; add --yes to do it", file=sys.stderr)
            sys.exit(FAILED)
        with house.database() as url:
            house.downgrade(url, revision)
            print(f"at {house.current(url)[0] or 'base'}")

    @app.command
    def current() -> None:
        """Which revision the database is at, and which this program needs. Fails where they differ."""
        with house.database() as url:
            at, needed = house.current(url)
            print(f"database {at or 'empty'}, program {needed}")
            if at != needed:
                sys.exit(FAILED)

    @app.command
    def check(*, json_: Annotated[bool, Parameter(name="--json")] = False) -> None:
        """Prove every version's hash chain and every head, and compare the schema with the program's.

        For example:

        - `heallog db check`
        - `heallog db check --json`

        Parameters
        ----------
        json_: Print one JSON object, for machines.
        """
        with house.database() as url:
            at, needed = house.current(url)
            drift = house.drift(url) if at == needed else []
            proof = asyncio.run(_verified(house, url)) if at == needed else Proof(0, 0, None)
        good = at == needed and not drift and proof.flaw is None
        if json_:
            schema = {"at": at, "needed": needed, "drift": [str(item) for item in drift]}
            print(json.dumps({"good": good, "schema": schema, **asdict(proof)}))
        else:
            print(f"schema: at {at or 'base'}, needed {needed}, {len(drift)} differences")
            print("\n".join(f"  differs: {item}" for item in drift), end="\n" if drift else "")
            _print_proof(proof)
        if not good:
            sys.exit(FAILED)

    _after_a_restore(app, house)
    return app


def _after_a_restore(app: App, house: House) -> None:
    @app.command
    def restored(*, json_: Annotated[bool, Parameter(name="--json")] = False) -> None:
        """After a restore from a backup, before the server starts: devices know more than this database does.

        Every practice gets a new epoch. Devices are told to push what they have not pushed and to pull everything anew;
        without it, some of them would miss changes and not notice. Done twice, they only begin anew twice. It leaves an
        entry in each practice's audit trail.

        For example:

        - `heallog db restored`
        - `heallog db restored --json`

        Parameters
        ----------
        json_: Print one JSON object, for machines.
        """
        with house.database() as url:
            check_current(house, url)
            practices = asyncio.run(with_services(house, url, lambda services: services.retention().restored()))
        if json_:
            print(json.dumps({"practices": practices}))
        else:
            many = "1 practice has" if len(practices) == 1 else f"{len(practices):,} practices have"
            print(f"{many} a new epoch: devices push what they have, and pull everything anew")


def _print_proof(proof: Proof) -> None:
    print(f"versions: {proof.versions:,} of {proof.things:,} things were read and follow from each other")
    if proof.flaw is not None:
        flaw = proof.flaw
        print(
            f"  FIRST FLAW: {flaw.collection} {flaw.thing_id} version {flaw.version} "
            f"(practice {flaw.practice_id}): {flaw.what}"
        )


async def _verified(house: House, url: str) -> Proof:
    async with house.services(url) as services:
        with progress() as bar:
            task = bar.add_task("versions", total=None)
            return await house.verify(services, lambda behind, total: bar.update(task, completed=behind, total=total))


# -- import -------------------------------------------------------------------------------------------------------


def _import(house: House) -> App:
    app = App(name="import", help="Bring records in from elsewhere.")

    @app.command
    def fhir(
        *paths: Path,
        practice: str | None = None,
        as_: Annotated[str | None, Parameter(name="--as")] = None,
        json_: Annotated[bool, Parameter(name="--json")] = False,
    ) -> None:
        """Import FHIR R4: NDJSON (.ndjson, .ndjson.gz) and Bundles (.json, .json.gz), files or folders.

        Doing it again changes nothing. What a person changed here is not overwritten; the report says so.
        Exit code 3 where something was refused.

        For example:

        - `heallog import fhir export/`
        - `heallog import fhir Patient.ndjson.gz Observation.ndjson.gz --practice Hillside --json`

        Parameters
        ----------
        paths: Files or folders.
        practice: Which practice it is for, by id or name. Needed where there are several.
        as_: The e-mail address of the member who imports; the practice's first owner where it is not said.
        json_: Print the report as one JSON object, for machines.
        """
        if not paths:
            print("name at least one file or folder", file=sys.stderr)
            sys.exit(2)
        with house.database() as url:
            house.upgrade(url, "head")
            report = asyncio.run(_imported(house, url, paths, practice, as_))
        if json_:
            refusals = [asdict(refusal) for refusal in report.refusals]
            types = {kind: asdict(tally) for kind, tally in sorted(report.types.items())}
            print(json.dumps({"types": types, "refused": report.refused, "refusals": refusals}))
        else:
            _print_report(report)
        if report.refused:
            sys.exit(IN_PART)

    return app


async def _imported(house: House, url: str, paths: tuple[Path, ...], practice: str | None, email: str | None) -> Report:
    async with house.services(url) as services:
        actor = await _actor(services, practice, email)
        with progress() as bar:
            task = bar.add_task("reading", total=None)

            def watch(report: Report, place: tuple[int, int]) -> None:
                read = sum(tally.read for tally in report.types.values())
                bar.update(task, completed=place[0], total=place[1], description=f"{read:,} resources")

            report: Report = await services.imports().run(actor, services.fhir_files(paths), watch)
            return report


async def _actor(services: Any, practice: str | None, email: str | None) -> Actor:
    """Who imports: a named member, or the practice's first owner. Raises ValueError saying what to name."""
    async with services.uow() as uow:
        chosen = await find_practice(uow, practice)
        members = await uow.practices.members(chosen.id)
        if email is None:
            found = next((member for member in members if member.role is Role.OWNER), None)
        else:
            account = await uow.accounts.by_email(email.strip().casefold())
            found = next((member for member in members if account and member.account_id == account.id), None)
    if found is None:
        raise ValueError(f"{email or 'an owner'} is not a member of {chosen.name}")
    return Actor(found.account_id, chosen.id, found.role, "", DEVICE, "")


def _print_report(report: Report) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False)
    table.add_column("type", no_wrap=True)
    for name in ("read", "created", "updated", "unchanged", "refused", "not mapped"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind, tally in sorted(report.types.items()):
        table.add_row(kind, *(f"{count:,}" for count in asdict(tally).values()))
    console.print(table)
    for refusal in report.refusals:
        console.print(
            f"refused {refusal.where} {refusal.type}/{refusal.id}: {refusal.reason}", markup=False, soft_wrap=True
        )
    if report.refused > len(report.refusals):
        console.print(f"… and {report.refused - len(report.refusals):,} more", markup=False)


# -- config -------------------------------------------------------------------------------------------------


def _config(house: House) -> App:
    app = App(name="config", help="Settings.")

    @app.command
    def check() -> None:
        """Read every setting as the server would; fail naming what is wrong.

        For example:

        - `heallog config check`
        """
        for name, value in house.settings():
            print(f"{name}={value}")

    return app
