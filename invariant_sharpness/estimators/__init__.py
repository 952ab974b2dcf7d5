"""From an oracle to numbers with errors."""
