"""An ordinary shop of 2005, for the demo to put behind an inbound route; nobody changes it."""
