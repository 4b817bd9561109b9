"""Reports: one page and its JSON twin from a job folder alone, after every other station and without torch."""
