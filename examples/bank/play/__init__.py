"""Plays real purchases through the running bank, and checks what comes out."""
