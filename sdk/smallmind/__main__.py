"""``python -m smallmind``."""

from __future__ import annotations

import sys

from smallmind._cli import main

if __name__ == "__main__":
    sys.exit(main())
