"""Bring templates to where containers are made: plan, apply, prove, roll back, prune."""
