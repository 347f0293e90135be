"""The order of steps in each verb."""
