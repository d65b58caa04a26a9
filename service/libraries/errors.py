"""What can go wrong with libraries: errors of the API, and what ends a scan."""

from __future__ import annotations

from service.errors import Conflict, NotFound


class LibraryNotFound(NotFound):
    """There is no such library."""

    code = "library_not_found"


class LibraryNameTaken(Conflict):
    """You have a library of this name already."""

    code = "library_name_taken"


class LibraryUnavailable(Exception):
    """The library's folder cannot be read: perhaps its disk is not mounted."""

    def __init__(self) -> None:
        super().__init__((type(self).__doc__ or "").strip())


class LibraryRefused(Exception):
    """The library's folder lies outside the folders that this installation allows."""

    def __init__(self) -> None:
        super().__init__((type(self).__doc__ or "").strip())


class LibraryTooLarge(Exception):
    """The library has more files or folders than this installation keeps."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
