"""The error that a user can mend, also on upstream Dassl, which has no such class."""

import dassl.utils

UserError = getattr(dassl.utils, "UserError", ValueError)
