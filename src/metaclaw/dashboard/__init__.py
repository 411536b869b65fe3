"""A web page over the journal, for the owner of a home on the machine where it is: it shows, and changes nothing."""
