"""Whether rows about one group of people are answered differently from rows about another, and what evens it out."""
