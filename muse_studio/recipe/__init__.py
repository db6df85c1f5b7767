"""From a recipe's text to nodes, to a plan of calls, to objects, to a run."""
