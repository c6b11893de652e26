"""Rollout orchestration: applies the planner's decisions to the database at every tick of the scheduler."""
