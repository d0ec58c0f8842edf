"""The engine of a network: the ledger as CometBFT's application, and what runs around it in the node."""
