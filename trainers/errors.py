"""The error that a user can mend. Upstream Dassl has no such class, and these trainers run there too."""

import dassl.utils

UserError = getattr(dassl.utils, "UserError", ValueError)
