"""The yardstick: a minimal Litestar + asyncpg service of the same work, written by hand as tightly as it goes.

It decodes the token and runs the same query for a read; for a change it runs the same statements in one transaction.
It checks nothing, keeps no errors in an envelope and serves one practice's dreams of the happy path.
"""

import datetime
import hashlib
import json
import os
from typing import Any

import asyncpg
import jwt
from litestar import Litestar, Request, get, patch
from litestar.response import Response
from uuid_utils import uuid7

from heallog.adapters.tokens import ALGORITHM, AUDIENCE, ISSUER, signing_key

_pool: asyncpg.Pool | None = None
_KEY = signing_key(os.environ.get("HEALLOG_SECRET_KEY", ""))

READ = """SELECT practice_id, id, patient_id, version, hash, content, created_at, updated_at, updated_by,
source_digest, source_version FROM records WHERE practice_id = $1 AND id = $2"""
LOCK = READ + " FOR UPDATE"
VERSION = """INSERT INTO versions (practice_id, collection, thing_id, patient_id, number, parent, inputs, change,
content, author_id, device_id, received_at, contribution_id, hash)
VALUES ($1, 'records', $2, $3, $4, $5, '{}', 'modification', $6, $7, $8, $9, $10, $11)"""
HEAD = """UPDATE records SET version = $3, last = $3, hash = $4, content = $5, updated_at = $6, updated_by = $7
WHERE practice_id = $1 AND id = $2"""
ENTRY = """INSERT INTO audit_entries (practice_id, id, at, account_id, role, session_id, device_id, request_id, action,
outcome, collection, thing_id, patient_id, version, fields)
VALUES ($1, $2, $3, $4, $5, $6, $7, '', 'records.change', 'done', 'records', $8, $9, $10, $11)"""


def _claims(request: Request[Any, Any, Any]) -> dict[str, Any]:
    token = request.headers["authorization"][7:]
    claims: dict[str, Any] = jwt.decode(token, _KEY, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER)
    return claims


SEQ = """UPDATE sync_heads SET seq = greatest(seq + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
WHERE practice_id = $1 RETURNING seq"""
FEED = """INSERT INTO change_feed (practice_id, seq, rank, id, patient_id, version, wire, row)
VALUES ($1, $2, 1, $3, $4, $5, $6, $6) ON CONFLICT (practice_id, rank, id)
DO UPDATE SET seq = excluded.seq, version = excluded.version, wire = excluded.wire, row = excluded.row"""


@get("/v1/records/{record_id:str}")
async def read(request: Request[Any, Any, Any], record_id: str) -> Response[bytes]:
    claims = _claims(request)
    assert _pool is not None
    row = await _pool.fetchrow(READ, claims["prc"], record_id)
    return Response(row["content"].encode(), media_type="application/json", headers={"ETag": f'"{row["version"]}"'})


@patch("/v1/records/{record_id:str}")
async def change(request: Request[Any, Any, Any], record_id: str, data: dict[str, Any]) -> Response[bytes]:
    claims = _claims(request)
    assert _pool is not None
    data.pop("base_version", None)
    now = datetime.datetime.now(datetime.UTC)
    async with _pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(LOCK, claims["prc"], record_id)
        content = json.dumps({**json.loads(row["content"]), **data})
        number = row["version"] + 1
        digest = hashlib.sha256(row["hash"] + content.encode()).digest()
        contribution = str(uuid7())
        await connection.execute(
            VERSION, claims["prc"], record_id, row["patient_id"], number, number - 1, content, claims["sub"],
            claims["dev"], now, contribution, digest,
        )  # fmt: skip
        await connection.execute(HEAD, claims["prc"], record_id, number, digest, content, now, claims["sub"])
        await connection.execute(
            ENTRY, claims["prc"], str(uuid7()), now, claims["sub"], "owner", claims["sid"], claims["dev"],
            record_id, row["patient_id"], number, list(data),
        )  # fmt: skip
        seq = await connection.fetchval(SEQ, claims["prc"])
        await connection.execute(FEED, claims["prc"], seq, record_id, row["patient_id"], number, content.encode())
    return Response(content.encode(), media_type="application/json", headers={"ETag": f'"{number}"'})


async def _open() -> None:
    global _pool  # noqa: PLW0603 - a yardstick
    _pool = await asyncpg.create_pool(os.environ["HEALLOG_DATABASE_URL"], min_size=10, max_size=10)


def app() -> Litestar:
    return Litestar([read, change], on_startup=[_open], openapi_config=None, logging_config=None)
