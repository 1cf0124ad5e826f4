"""Recipes: a study's parts named in one place, one file a family. Nothing imports this shelf."""
