"""What can go wrong with registered databases: errors of the API, and failures of the databases themselves.

A failure carries a message of ours wherever its kind is known: drivers quote addresses and whatever a server says.
Its code is also what a job that fails with it shows, derived there from the name of the class.
"""

from __future__ import annotations

from typing import ClassVar

from service.errors import Conflict, NotFound


class ConnectionNotFound(NotFound):
    """There is no such connection."""

    code = "connection_not_found"


class ConnectionNameTaken(Conflict):
    """You have a connection of this name already."""

    code = "connection_name_taken"


class SchemaNotFound(NotFound):
    """The schema of this connection has not been read yet: rebuild it first."""

    code = "schema_not_found"


class DatabaseFailure(Exception):
    """The database failed."""

    code: ClassVar[str] = "database_failure"

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        super().__init__(self.message)


class DatabaseUnreachable(DatabaseFailure):
    """The database cannot be reached."""

    code = "database_unreachable"


class StatementTimeout(DatabaseFailure):
    """The database took too long to answer."""

    code = "statement_timeout"


class DatabaseError(DatabaseFailure):
    """The database refused a statement."""

    code = "database_error"


class PermanentFailure(DatabaseFailure):
    """The database failed in a way that trying again does not mend."""

    code = "permanent_failure"


class InvalidCredentials(PermanentFailure):
    """The database did not accept the user name or the password."""

    code = "invalid_credentials"


class PermissionDenied(PermanentFailure):
    """The database does not allow this user to do that."""

    code = "permission_denied"


class DatabaseNotFound(PermanentFailure):
    """There is no such database."""

    code = "database_not_found"


class FileIsNoDatabase(PermanentFailure):
    """The file is not a SQLite database, or is damaged."""

    code = "file_is_no_database"


class AddressRefused(PermanentFailure):
    """This installation does not allow connections to that address."""

    code = "address_refused"


class TlsFailed(PermanentFailure):
    """An encrypted connection of the kind that is asked for could not be made."""

    code = "tls_failed"


class SchemaTooLarge(PermanentFailure):
    """The schema is larger than this installation keeps."""

    code = "schema_too_large"


class ConnectionUnreadable(PermanentFailure):
    """The stored URL cannot be decrypted with the present keys: enter it again."""

    code = "connection_unreadable"
