"""What several servers share and may forget: the blacklist of access tokens, in Redis."""
