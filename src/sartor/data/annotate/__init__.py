"""Labels and rankings by people: what is asked, in which order, what was answered, and how far the annotators agree."""
