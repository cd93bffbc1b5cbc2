"""Generations of views: whose they are, and how one takes the place of another."""
