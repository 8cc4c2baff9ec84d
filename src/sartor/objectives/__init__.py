"""What is minimised: pure functions of a policy and a batch that return a sum and what to divide it by."""
