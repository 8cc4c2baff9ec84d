"""Is the tuned model better? Predicts the locked test rows, compares models with paired statistics, decides the gates, reports."""
