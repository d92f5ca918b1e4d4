"""How the portal's tables came to be: one revision a file in `versions`, run by `propagator.portal.migrating`."""
