"""What endpoints are given: the open services, the caller's key, a page of a list."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from core.db import keys
from core.db.models import ApiKey
from core.errors import InvalidValue, NotAllowed, NotAuthenticated
from rag_service.wiring import ApiServices

_bearer = HTTPBearer(auto_error=False, description="An API key: `rag_…`.")


async def services(request: Request) -> ApiServices:  # async, as all here: what is not costs a thread
    opened: ApiServices = request.app.state.services
    return opened


Services = Annotated[ApiServices, Depends(services)]


async def any_key(
    services: Services, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> ApiKey:
    """The caller's key, admin or reader."""
    if credentials is None:
        raise NotAuthenticated
    async with services.database.reading() as session:
        key = await keys.find(session, credentials.credentials)
    if key is None:
        raise NotAuthenticated(
            "This API key is not known.", hint="Check that it is complete, or ask an admin."
        )
    return key


AnyKey = Annotated[ApiKey, Depends(any_key)]


async def admin_key(key: AnyKey) -> ApiKey:
    """The caller's key, if it is an admin's."""
    if key.role != "admin":
        raise NotAllowed("This needs an admin key; yours is a reader's.")
    return key


AdminKey = Annotated[ApiKey, Depends(admin_key)]
Limit = Annotated[int, Query(ge=1, le=200, description="Most items on the page.")]


def encode_cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


async def decoded_cursor(
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> str | None:
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise InvalidValue("This cursor is not one of ours.", hint="Pass `next_cursor` as it is.") from None


Cursor = Annotated[str | None, Depends(decoded_cursor)]
