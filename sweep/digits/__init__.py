"""The job that ships: a classifier of handwritten digits."""
