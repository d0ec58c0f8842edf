"""What both processes share as processes: logs, and how they say that they serve. Nothing of the ledger."""
