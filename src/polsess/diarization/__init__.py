"""Who speaks when, and whose voice it is: two small networks, and what follows from their outputs."""
