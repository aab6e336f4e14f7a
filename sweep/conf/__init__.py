"""Settings of studies, which travel with this package; YAML only."""
