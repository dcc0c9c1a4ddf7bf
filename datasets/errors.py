"""The exception of user mistakes: Dassl's own where it has one, ValueError on upstream Dassl."""

import dassl.utils

UserError = getattr(dassl.utils, "UserError", ValueError)
