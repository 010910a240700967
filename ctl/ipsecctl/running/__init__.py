"""``ipsecctl run``: a batch file of the commands of Windows about IPsec rules, as one change."""
