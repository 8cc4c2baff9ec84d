"""What a model may do to people: each file measures one harm, of base and tuned model alike."""
