"""The words of IPsec filtering as values, their precedence, and the decision about one packet."""
