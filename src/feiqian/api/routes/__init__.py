"""The core routes of the HTTP interface, one file a subject; modules add theirs through their edges."""
