"""Recipes and studies: parameter sets that stand for published datasets, and questions asked of them."""
