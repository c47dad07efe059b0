"""How the toy world's models were trained. Not needed to use them."""
