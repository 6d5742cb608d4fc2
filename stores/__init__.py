"""Vector stores: one interface (`base`), one filter tree (`filters`), one file per store."""
