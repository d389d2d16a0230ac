"""Words, options, selections, ranks, threads and files: what every room uses and nothing of the field."""
