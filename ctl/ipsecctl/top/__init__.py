"""``ipsecctl top``: rules and sources by packets a second, in a terminal."""
