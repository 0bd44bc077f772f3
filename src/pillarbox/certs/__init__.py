"""Certificates: those of the configuration, or ones that a private CA signs at the first start."""
