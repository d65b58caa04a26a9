"""The older paths of S0 and S4: other rooms' data in the shapes that their clients know."""
