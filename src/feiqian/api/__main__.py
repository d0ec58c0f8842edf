"""`python -m feiqian.api DIR`."""

import sys

from feiqian.api.main import main

sys.exit(main(sys.argv[1:]))
