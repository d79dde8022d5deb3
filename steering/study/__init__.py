"""A study: everything that is measured of a model and a set, part by part, as one report."""
