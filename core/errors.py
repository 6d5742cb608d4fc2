"""What can go wrong, in the words of the person who must act.

Every error raised on purpose is a `RagError`. Its class carries the HTTP status and whether a retry can
help; its message says what was wrong and where; its `hint` says what to do. Driver and library errors are
translated at the edge where they happen (one table per store or model), never higher up.
"""

from __future__ import annotations


class RagError(Exception):
    """Something went wrong inside the service."""

    status = 500
    code = "internal"
    retryable = False
    retry_after_s: float | None = None

    def __init__(
        self, message: str | None = None, *, hint: str | None = None, retry_after_s: float | None = None
    ) -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.hint = hint
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s
        super().__init__(self.message)

    @property
    def reason(self) -> dict[str, str | None]:
        """As jobs and checks keep it."""
        return {"code": self.code, "message": self.message, "hint": self.hint}

    @property
    def asked_pause_s(self) -> float | None:
        """`retry_after_s` if the server that failed gave it; that of a class is for clients."""
        return vars(self).get("retry_after_s")

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class BadRequest(RagError):
    """The request cannot be understood."""

    status = 400
    code = "bad-request"


class InvalidValue(RagError):
    """A value in the request is not allowed."""

    status = 422
    code = "invalid-value"


class NotAuthenticated(RagError):
    """An API key is needed: send it as `Authorization: Bearer KEY`."""

    status = 401
    code = "not-authenticated"


class NotAllowed(RagError):
    """This API key may not do that."""

    status = 403
    code = "not-allowed"


class NotFound(RagError):
    """There is no such thing."""

    status = 404
    code = "not-found"


class Conflict(RagError):
    """The request contradicts what is stored."""

    status = 409
    code = "conflict"


class TooLarge(RagError):
    """The upload is larger than this service accepts."""

    status = 413
    code = "too-large"


class UnreadableDocument(RagError):
    """The document cannot be read; trying again will not help."""

    status = 422
    code = "unreadable-document"


class SettingsError(RagError):
    """A setting is unknown, missing or contradicts another."""

    code = "settings"


class Unavailable(RagError):
    """A server this service needs does not answer; it may be back soon."""

    status = 503
    code = "unavailable"
    retryable = True
    retry_after_s = 5.0  # unless the error knows better


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""

    code = "database-unavailable"


class StoreError(RagError):
    """The vector store refused the operation."""

    code = "store"


class StoreUnavailable(Unavailable):
    """The vector store does not answer."""

    code = "store-unavailable"


class DimensionMismatch(StoreError):
    """A vector does not have the dimension of its index."""

    status = 409
    code = "dimension-mismatch"


class UnsupportedByStore(StoreError):
    """The chosen vector store does not have this capability."""

    status = 422
    code = "unsupported-by-store"


class ModelError(RagError):
    """A model refused the request or answered something unusable."""

    status = 502
    code = "model"


class ModelBrokeOff(ModelError):
    """A model's answer broke off."""

    code = "model-broke-off"


class PromptTooLong(ModelError):
    """The prompt does not fit the model's context."""

    status = 422
    code = "prompt-too-long"


class ModelUnavailable(Unavailable):
    """A model server does not answer."""

    code = "model-unavailable"


class ModelTimeout(Unavailable):
    """A model server took longer than its time-out allows."""

    status = 504
    code = "model-timeout"


def broken(error: Exception) -> RagError:
    """What nobody foresaw while a document was read, in words."""
    said = RagError(f"Reading it broke: {type(error).__name__}.", hint="The worker's log has the details.")
    said.retryable = True
    return said
