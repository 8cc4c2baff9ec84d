"""What happened in production: the request log, what people said of the answers, and which arm of a test is better."""
