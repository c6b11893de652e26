"""HTTP between browsers, gateway and bots: connections, heads and bodies. It neither reads rows nor knows people."""
