"""Job templates: submissions with gaps, to be run with values for them."""
