"""What people see in a picture: the thing, how many, in which colour, and where."""
