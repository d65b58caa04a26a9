"""Web push: the browsers that users allowed to be told by."""
