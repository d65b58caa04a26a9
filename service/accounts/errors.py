"""What can go wrong with accounts."""

from __future__ import annotations

from service.errors import Conflict, NotAllowed, NotFound, ValidationFailed


class RegistrationClosed(NotAllowed):
    """Registration is closed: ask an administrator for an account."""

    code = "registration_closed"


class UsernameTaken(Conflict):
    """This user name is taken."""

    code = "username_taken"


class EmailTaken(Conflict):
    """This e-mail address belongs to another account."""

    code = "email_taken"


class OrganizationExists(Conflict):
    """There is an organization of this name already."""

    code = "organization_exists"


class OrganizationNotFound(NotFound):
    """There is no organization of this name."""

    code = "organization_not_found"


class UserNotFound(NotFound):
    """There is no such user."""

    code = "user_not_found"


class AccountDeactivated(NotAllowed):
    """This account has been deactivated."""

    code = "account_deactivated"


class OwnAccount(Conflict):
    """Administrators can neither give up their own role nor deactivate themselves: another one has to."""

    code = "own_account"


class InvalidResetToken(ValidationFailed):
    """This link is not valid or has been used: ask for a new one."""

    code = "invalid_reset_token"
