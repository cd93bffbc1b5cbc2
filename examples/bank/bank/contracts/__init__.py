"""What the services of the bank say to one another: commands, events, queries, answers."""
