"""What is done after a study: its table, summary, plots, report, confirmation, best model."""
