"""The report: one HTML page that needs nothing else, made of rows and of the run folders here."""
