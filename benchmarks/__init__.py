"""Tools of the checkout: the comparison with the peers, and the docs' tables of its results."""
