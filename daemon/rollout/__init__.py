"""Carries the planner's decisions into the database."""
