"""The one file of configuration: typed, checked before use, every error with its place and what to do."""
