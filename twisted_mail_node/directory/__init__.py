"""Who lives here: local domains, accounts and aliases."""
