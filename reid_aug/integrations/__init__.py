"""Other libraries' plug points."""
