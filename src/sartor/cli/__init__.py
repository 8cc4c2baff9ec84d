"""The command line: one file per command, whose first docstring line is its summary; it imports its flow only when it runs."""
