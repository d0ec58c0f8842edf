"""The console's own pages, one file a subject; modules bring theirs in `edge/pages.py`."""
