"""What is asked for by HTTP: who may ask, the routes, their answers and their streams."""
