"""Jobs: submitted, run, ended, remembered."""
