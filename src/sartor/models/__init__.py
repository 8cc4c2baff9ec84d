"""A model as objectives see it: loading, the policy, the probe that proves it exact, and the catalog of model folders."""
