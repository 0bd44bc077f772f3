"""From an address to the mailboxes of accounts: routing, aliases, local delivery, and what waits for it."""
