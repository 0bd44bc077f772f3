"""The application: the only place that constructs the parts and puts them together."""
