"""`python -m feiqian.node DIR`."""

import sys

from feiqian.node.main import main

sys.exit(main(sys.argv[1:]))
