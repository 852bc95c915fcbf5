package custody

// GTINOf returns the GTIN-14 of a canonical URI of a product, lot, or unit with a
// GTIN, and "" for all others.
func GTINOf(uri string) string { return gtinOf(uri) }
