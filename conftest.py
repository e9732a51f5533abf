"""For every test, and for notebooks run by nbval: the quick size unless another was asked for."""

import os

os.environ.setdefault("HW3_PROFILE", "smoke")
