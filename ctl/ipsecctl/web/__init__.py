"""The page of ``ipsecctl web``: it is for looking, and asks only what everybody may who looks."""
