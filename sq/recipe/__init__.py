"""Recipes: the stages of a whole run, what each reads, and the one command that brings them to their end."""
