"""Which query parameters or form fields does a request carry that its endpoint does not know? They are refused, not
ignored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from core.errors import InvalidValue


async def refuse_unknown_parameters(request: Request) -> None:
    """Raise `InvalidValue` naming the first query parameter that the endpoint does not have."""
    if not request.query_params:
        return
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = sorted(set(_parameters(route.dependant)))
    for name in request.query_params:
        check_known("query parameter", name, known)


def check_known(kind: str, name: str, known: Sequence[str]) -> None:
    """Raise `InvalidValue` if `name`, a query parameter or the like, is none of those that are `known`."""
    if name in known:
        return
    like = get_close_matches(name, known, n=1)
    meant = f" (did you mean `{like[0]}`?)" if like else ""
    all_known = ", ".join(f"`{each}`" for each in known)
    raise InvalidValue(
        f"There is no {kind} `{name[:64]}` here{meant}.",
        hint=f"There are: {all_known}." if known else "This request takes none.",
    )


ONLY_KNOWN_PARAMETERS = Depends(refuse_unknown_parameters)


def _parameters(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for inner in dependant.dependencies:
        yield from _parameters(inner)
