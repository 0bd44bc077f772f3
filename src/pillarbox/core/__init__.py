"""Words that everyone uses: addresses, flags, dates, ids and errors. Imports nothing of ours."""
