"""Training: one file a stage over one Lightning base. Called as a function it is `sq.api.train`."""

import sys

from sq import CallablePackage

sys.modules[__name__].__class__ = CallablePackage
