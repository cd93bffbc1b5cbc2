"""A bank: customers, accounts, transfers between accounts, and insights into them."""
