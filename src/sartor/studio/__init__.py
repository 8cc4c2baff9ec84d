"""The local web page: shows what the rooms below give it, on this machine only, to whoever holds the token in its address."""
