"""A ClearML server for tests: its protocol and its rules, in memory; see README.md here."""
