"""The demo: sample agents and the scripted model that plays with them."""
