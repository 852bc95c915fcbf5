// Package vectors holds a test that reads testdata as a second implementation
// would: from docs/formats.md alone, with the standard library and no package of
// this module. What it recomputes is what the pages and the vectors suffice for.
package vectors
