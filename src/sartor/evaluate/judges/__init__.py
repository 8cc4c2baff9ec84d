"""Models that judge answers, and how far their judgement can be trusted."""
