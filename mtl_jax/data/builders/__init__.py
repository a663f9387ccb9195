"""Builders of the data sets that ship with this package."""
