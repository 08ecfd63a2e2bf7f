"""Tables, figures and pages made of rows."""
